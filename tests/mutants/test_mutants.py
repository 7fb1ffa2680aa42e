"""Each plausible mistake turns at least one test red."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.mutants.mutants import MUTANTS, table
from tests.support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of sources and tests, so that a mutant never touches the real ones."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("exporter", "training", "tests", "alerts", "stack", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(copy, arguments):
    paths = os.pathsep.join(str(copy / name) for name in ("exporter", "training"))
    # A fixed seed for the properties: a mutant that is seen today is seen tomorrow.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    return subprocess.run(
        [*command, *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_mutant_all_of_those_tests_pass(copy):
    imported = subprocess.run(
        [sys.executable, "-c", "import rl_exporter; print(rl_exporter.__file__)"],
        env={**os.environ, "PYTHONPATH": str(copy / "exporter")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert imported.stdout.startswith(str(copy)), "the copy is what is tested"
    for tests in sorted({mutant.tests for mutant in MUTANTS}):
        result = run(copy, tests)
        assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.mistake for mutant in MUTANTS])
def test_a_mutant_is_seen(copy, mutant):
    path = copy / mutant.path
    source = path.read_text()
    assert source.count(mutant.old) == 1, f"{mutant.path} no longer holds {mutant.old!r} exactly once"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        result = run(copy, mutant.tests)
    finally:
        path.write_text(source)
    assert result.returncode == 1, f"not seen: {mutant.mistake}\n{result.stdout[-3000:]}"
    assert " failed" in result.stdout


def test_the_table_in_the_readme_is_this_one():
    assert table() in (ROOT / "tests/mutants/README.md").read_text()
