"""The scripts of deploy/slurm on a real Slurm: arrays, what a killed run leaves, requeueing, ranks on two nodes."""

import json
import socket
import subprocess

import pytest

from stack.servers import find_slurm
from tests.conftest import server
from tests.deploy.test_slurm_watched import DRILL
from tests.support import ROOT
from tests.support.real_slurm import BIN, RealSlurm
from tests.support.small_runs import SMALL_UPDATES
from tests.support.torchrun import Scraper
from tests.support.waiting import until

pytestmark = pytest.mark.stack

SCRIPTS = ROOT / "deploy/slurm"
ENDLESS = ("--env", "heads", "--num-envs", "4", *SMALL_UPDATES, "--pace", "0.2", "--updates", "1000000")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    home = tmp_path_factory.mktemp("slurm")
    (home / "targets").mkdir()
    (home / "epilog.sh").write_text(
        (SCRIPTS / "epilog.sh")
        .read_text()
        .replace("/shared/rl/targets", str(home / "targets"))
        .replace("/opt/rl/bin/rl-exporter", str(BIN / "rl-exporter"))
    )
    (home / "epilog.sh").chmod(0o755)
    with RealSlurm(server(find_slurm), home, home / "epilog.sh") as cluster:
        cluster.environment |= {"RL_TARGETS": str(home / "targets"), "RL_STATE": str(home / "state")}
        yield cluster


def entry(slurm, run_id):
    """The target group of a run; None where it has none, or does not say where it listens yet."""
    for path in (slurm.home / "targets").glob(f"{run_id}@*.run.json"):
        (group,) = json.loads(path.read_text())
        if group["targets"]:
            return group
    return None


def listening(slurm, run_id):
    """What asks a run for its /metrics, once its entry says where it listens."""
    host, _, port = until(lambda: entry(slurm, run_id))["targets"][0].rpartition(":")
    assert host == socket.gethostname()
    return Scraper(f"127.0.0.1:{port}")


def test_an_array_a_killed_run_and_one_that_goes_on_when_it_is_requeued(slurm):
    array = slurm.submit(SCRIPTS / "train-array.sbatch", *ENDLESS, options=["--array=3,5"])
    killed, other = f"sweep-{array}-3", f"sweep-{array}-5"
    runs = [listening(slurm, run_id) for run_id in (killed, other)]
    for seed, run in zip((3, 5), runs, strict=True):
        assert f'seed="{seed}"' in run.metrics()
    runs[1].until_updates(3)
    assert f'rl_training_run_state{{run_id="{other}",state="running"}} 1' in runs[1].metrics()
    assert entry(slurm, other)["labels"]["cluster"] == "trial"

    # The epilog of the node removes the entry of what cannot remove it itself.
    subprocess.run(["pkill", "-KILL", "-f", f"run-id {killed} "], check=True)
    until(lambda: not list((slurm.home / "targets").glob(f"{killed}@*")))

    slurm("scontrol", "requeue", f"{array}_5")
    runs[1].until_state("interrupted")
    until(lambda: slurm.state(f"{array}_5") == "PENDING")
    assert entry(slurm, other) is None
    slurm.start_again(f"{array}_5")
    again = listening(slurm, other)
    assert again.value("rl_training_resumed_updates") > 2
    slurm("scancel", array)
    again.until_state("interrupted")
    until(lambda: slurm.state(array) == "")
    assert list((slurm.home / "targets").iterdir()) == []


def test_the_ranks_of_a_task_meet_on_two_nodes(slurm):
    job = slurm.submit(
        SCRIPTS / "train-array.sbatch", *ENDLESS, "--num-envs", "8", options=["--array=0", "--nodes=2"], RL_RANKS="2"
    )  # fmt: skip
    run = listening(slurm, f"sweep-{job}-0")
    run.until_updates(2)
    assert 'world_size="4"' in run.metrics()
    slurm("scancel", job)
    run.until_state("interrupted")
    until(lambda: slurm.state(job) == "")


def test_a_run_goes_back_to_its_best_checkpoint_when_a_head_collapses(slurm):
    """The job asks Slurm to requeue it, and Slurm ends it for that; it remembers, and gives up the second time."""
    # Without an entropy bonus, which could save the head, it collapses again.
    endless = ("--entropy-coef", "0", "--updates", "100000", "--linger", "0")
    settings = {"RL_PATIENCE": "0", "RL_POLL": "0.5", "RL_MOST_RETURNS": "1"}
    job = slurm.submit(SCRIPTS / "train-watched.sbatch", *DRILL, *endless, **settings)
    until(lambda: slurm.state(job) == "PENDING" and "collapsed" in output(slurm, job))
    assert f"watched-{job}: collapsed: blueprint ; back to the best checkpoint" in output(slurm, job)
    slurm.start_again(job)
    until(lambda: slurm.state(job) == "")
    assert f"watched-{job}: collapsed again, blueprint after 1 returns; giving up" in output(slurm, job)


def output(slurm, job):
    path = slurm.home / f"{job}.out"
    return path.read_text() if path.exists() else ""
