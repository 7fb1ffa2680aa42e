"""The batch script and the epilog for Slurm, run with what Slurm would give them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from rl_exporter.discovery.entry import entry_path
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_training.run.cli import parser
from tests.support import ROOT
from tests.support.scraping import scrape, scrape_to_the_end
from tests.support.small_runs import SMALL_UPDATES
from tests.support.waiting import until

SLURM = ROOT / "deploy/slurm"
BATCH, WATCHED, EPILOG = SLURM / "train-array.sbatch", SLURM / "train-watched.sbatch", SLURM / "epilog.sh"
BIN = Path(sys.executable).parent

DIRECTIVES = {
    *(
        "job-name",
        "array",
        "nodes",
        "ntasks-per-node",
        "cpus-per-task",
        "time",
        "requeue",
        "open-mode",
        "signal",
    ),
}
"""Options of sbatch that are used; https://slurm.schedmd.com/sbatch.html"""

STUBS = {
    "srun": '#!/bin/sh\nexec "$@"\n',
    "scontrol": '#!/bin/sh\n[ "$*" = "show hostnames node[1-2]" ] && echo localhost && sleep 0.2 && echo node2\n',
}


@pytest.mark.parametrize("script", [BATCH, WATCHED, EPILOG])
def test_bash_and_shellcheck_accept_it(script):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("script", "known"),
    [(BATCH, DIRECTIVES), (WATCHED, DIRECTIVES - {"array", "nodes", "ntasks-per-node"} | {"ntasks"})],
)
def test_the_directives_are_options_of_sbatch_and_come_before_the_first_command(script, known):
    text = script.read_text()
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE)
    assert {name for name, _ in found} == known
    assert len(found) == text.count("#SBATCH") == len(known)
    first_command = re.search(r"^[^#\n]", text, re.MULTILINE).start()
    assert text.rindex("#SBATCH") < first_command


def test_slurm_signals_the_script_that_watches_and_not_its_run():
    """Else the run would end twice: Slurm kills a job some seconds after its last step."""
    assert "#SBATCH --signal=B:TERM@" in WATCHED.read_text()


def test_the_run_has_said_its_last_word_before_torchrun_kills_it():
    options = parser().parse_args(["--linger", re.search(r"--linger (\d+)", BATCH.read_text())[1]])
    assert vars(options)["output.linger"] < 30


@pytest.fixture
def slurm(tmp_path):
    """The environment of an array task, with stubs for what Slurm brings."""
    (tmp_path / "bin").mkdir()
    for name, text in STUBS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "targets").mkdir()
    return os.environ | {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), str(BIN), os.environ["PATH"]]),
        "RL_TARGETS": str(tmp_path / "targets"),
        "RL_STATE": str(tmp_path / "state"),
        "SLURM_JOB_NAME": "sweep",
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_JOB_ID": "4700",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_CLUSTER_NAME": "lab",
    }


def address(slurm):
    """Where the run says it is; it may not have said so yet."""
    path = Path(slurm["RL_TARGETS"]) / "sweep-4700-3@lab.run.json"
    if not path.exists():
        return None
    (group,) = json.loads(path.read_text())
    assert group["labels"] == {"cluster": "lab", "slurm_job": "4711"}
    return next(iter(group["targets"]), None)


@pytest.mark.slow
def test_an_array_task_registers_is_scraped_to_its_end_and_goes_on_when_it_is_requeued(slurm):
    quick = ("--env", "heads", "--num-envs", "4", *SMALL_UPDATES, "--pace", "0.2")
    job = subprocess.Popen(["bash", BATCH, *quick, "--updates", "1000000"], env=slurm, stderr=subprocess.PIPE)
    try:
        host, _, port = until(lambda: address(slurm)).rpartition(":")
        assert host == socket.gethostname()
        url = f"http://127.0.0.1:{port}/metrics"
        until(lambda: 'rl_training_updates_total{run_id="sweep-4700-3"} 3' in scrape(url))
        assert 'experiment="sweep"' in scrape(url)
        assert 'seed="3"' in scrape(url)
        job.send_signal(signal.SIGTERM)
        assert 'rl_training_run_state{run_id="sweep-4700-3",state="interrupted"} 1' in scrape_to_the_end(url)
    finally:
        with suppress(subprocess.TimeoutExpired):
            job.wait(60)
        job.kill()
        job.communicate()
    assert list(Path(slurm["RL_TARGETS"]).iterdir()) == []

    again = subprocess.run(
        ["bash", BATCH, *quick, "--updates", "1", "--linger", "0"], env=slurm, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "Traceback" not in again.stderr
    assert list(Path(slurm["RL_TARGETS"]).iterdir()) == []


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param("1", "localhost:0", id="a-free-port-so-that-no-other-job-on-the-node-has-it"),
        pytest.param("2", "localhost:24711", id="a-port-that-all-nodes-know-on-the-first"),
    ],
)
def test_the_ranks_of_a_task_meet(nodes, expected, slurm, tmp_path):
    (tmp_path / "bin/torchrun").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bin/torchrun").chmod(0o755)
    ran = subprocess.run(
        ["bash", BATCH], env=slurm | {"SLURM_JOB_NUM_NODES": nodes}, capture_output=True, text=True, check=True
    )
    assert f"--rdzv-endpoint {expected} -m rl_training" in ran.stdout


@pytest.fixture
def left(slurm):
    """The entry of a run that was killed on this node."""
    path = entry_path(Path(slurm["RL_TARGETS"]), "killed", {})
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = socket.gethostname()
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            pytest.skip("this machine does not know its own name")
        path.write_bytes(dump_groups(TargetGroup([f"{host}:{closed.getsockname()[1]}"], {})))
        yield path


@pytest.mark.slow
def test_the_epilog_removes_what_a_killed_run_left_on_this_node(slurm, left):
    young = entry_path(left.parent, "elsewhere", {})
    young.write_bytes(dump_groups(TargetGroup(["no-such-node.invalid:9"], {})))
    # All that the script reads of what Slurm gives it: no PATH, where it would find runuser.
    given = {
        "RL_TARGETS": slurm["RL_TARGETS"],
        "RL_EXPORTER": str(BIN / "rl-exporter"),
        "SLURM_JOB_USER": "root",
    }
    done = subprocess.run(["/bin/bash", EPILOG], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed killed at ")
    assert list(left.parent.iterdir()) == [young]


@pytest.mark.parametrize(
    "broken", [{"RL_EXPORTER": "/nope"}, {"RL_TARGETS": "/nope"}, {"SLURM_JOB_USER": "nobody-of-that-name"}]
)
def test_an_epilog_never_fails(slurm, broken):
    epilog = slurm | {"RL_EXPORTER": str(BIN / "rl-exporter")} | broken
    assert subprocess.run(["bash", EPILOG], env=epilog, capture_output=True, check=False).returncode == 0
