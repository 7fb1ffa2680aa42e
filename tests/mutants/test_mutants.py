"""Each plausible mistake turns at least one test red."""

import compileall
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from py_compile import PycInvalidationMode
from queue import Queue
from typing import NamedTuple

import pytest

from tests.mutants import runner
from tests.mutants.mutant import Mutant
from tests.mutants.of_exporter import EXPORTER
from tests.mutants.of_training import TRAINING
from tests.support import ROOT

pytestmark = pytest.mark.slow

MUTANTS = (*EXPORTER, *TRAINING)
MUTATED = sorted({mutant.path.split("/")[0] for mutant in MUTANTS})

COPIES = 2
"""As many runs at once."""

# A fixed seed for the properties: a mutant that is seen today is seen tomorrow.
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--hypothesis-profile=first-failure")


def table():
    """The mutants as a Markdown table."""
    rows = [f"| {m.mistake} | `{m.path}` | `{m.tests[0]}` |" for m in MUTANTS]
    return "\n".join(("| mistake | edited | seen by |", "| --- | --- | --- |", *rows)) + "\n"


class Job(NamedTuple):
    """Tests to run, with a mutant or without one."""

    tests: tuple[str, ...]
    mutant: Mutant | None = None


WITHOUT_A_MUTANT = [Job(tests) for tests in dict.fromkeys(mutant.tests for mutant in MUTANTS)]
WITH_A_MUTANT = [Job(mutant.tests, mutant) for mutant in MUTANTS]


class Copy:
    """A copy of sources and tests, so that a mutant never touches the real ones, and a process that runs tests on it."""

    def __init__(self, folder):
        self._folder = folder
        for name in ("exporter", "training", "tests", "alerts", "stack", "benchmarks"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder / name)
        # Bytecode that is taken by the hash of its source: one of a mutant could be as new, and as long, as another.
        for name in MUTATED:
            compileall.compile_dir(folder / name, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        # A hundred runs would each rewrite the assertions of hypothesis, if they might not keep them.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._runner = subprocess.Popen(
            [sys.executable, runner.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def outcome(self, job):
        """Exit status and output of the tests."""
        if job.mutant is None:
            return self._run(job.tests)
        path = self._folder / job.mutant.path
        source = path.read_text()
        assert source.count(job.mutant.old) == 1, f"{path} no longer holds {job.mutant.old!r} exactly once"
        path.write_text(source.replace(job.mutant.old, job.mutant.new))
        try:
            return self._run(job.tests)
        finally:
            path.write_text(source)

    def _run(self, tests):
        print(json.dumps([str(self._folder), [*OPTIONS, *tests]]), file=self._runner.stdin, flush=True)
        return json.loads(self._runner.stdout.readline())

    def close(self):
        self._runner.kill()
        self._runner.communicate()


@pytest.fixture(scope="module")
def outcomes(request, tmp_path_factory):
    """The future outcome of every job that a selected test asks for."""
    copies = [Copy(tmp_path_factory.mktemp("copy")) for _ in range(COPIES)]
    idle = Queue()
    for copy in copies:
        idle.put(copy)

    def outcome(job):
        copy = idle.get()
        try:
            return copy.outcome(job)
        finally:
            idle.put(copy)

    jobs = [item.callspec.params["job"] for item in request.session.items if "outcomes" in item.fixturenames]
    with ThreadPoolExecutor(COPIES) as pool:
        yield {job: pool.submit(outcome, job) for job in jobs}
    for copy in copies:
        copy.close()


@pytest.mark.parametrize("job", WITHOUT_A_MUTANT, ids=lambda job: " ".join(job.tests))
def test_without_a_mutant_the_tests_pass(outcomes, job):
    status, output = outcomes[job].result()
    assert status == 0, output[-3000:]


@pytest.mark.parametrize("job", WITH_A_MUTANT, ids=lambda job: job.mutant.mistake)
def test_a_mutant_is_seen(outcomes, job):
    status, output = outcomes[job].result()
    assert status == 1, f"not seen: {job.mutant.mistake}\n{output[-3000:]}"
    assert " failed" in output


def test_the_table_in_the_readme_is_this_one():
    assert table() in (ROOT / "tests/mutants/README.md").read_text()
