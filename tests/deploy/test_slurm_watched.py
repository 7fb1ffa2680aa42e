"""train-watched.sbatch: back to the best checkpoint when a head collapses, with what Slurm would give it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT

SCRIPT = ROOT / "deploy/slurm/train-watched.sbatch"
BIN = Path(sys.executable).parent
DRILL = (
    *(
        "--env",
        "heads",
        "--env-arg",
        "paid_head=blueprint",
        "--env-arg",
        "safe_pay=0.9",
        "--env-arg",
        "delay=1",
    ),
    *("--env-arg", "noise=8", "--num-envs", "8", "--rollout-steps", "64", "--learning-rate", "3e-3"),
    *("--entropy-multiplier", "blueprint=0", "--entropy-coef", "0.05"),
)


class Slurm:
    """The job on a stand-in for Slurm that writes down what it is told."""

    def __init__(self, folder, rl_train):
        self.folder, self.checkpoint = folder, folder / "state/watched-4711"
        (folder / "bin").mkdir()
        self.stub("scontrol", f'echo "$@" >>{folder}/scontrol')
        self.stub("rl-train", f'echo "$@" >>{folder}/rl-train; {rl_train}')
        (folder / "targets").mkdir()

    def stub(self, name, script):
        (self.folder / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def start(self, *arguments, **settings):
        environment = os.environ | {
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(BIN), os.environ["PATH"]]),
            "RL_TARGETS": str(self.folder / "targets"),
            "RL_STATE": str(self.folder / "state"),
            "RL_POLL": "0.2",
            "SLURM_JOB_NAME": "watched",
            "SLURM_JOB_ID": "4711",
        }
        return subprocess.Popen(
            ["bash", SCRIPT, *arguments], env=environment | settings, stderr=subprocess.PIPE, text=True
        )

    def finished(self, *arguments, **settings):
        with self.start(*arguments, **settings) as job:
            said = job.communicate(timeout=600)[1]  # for a hanging one; a collapse takes 20 s on free cores
        return job.returncode, said

    def told(self, command):
        path = self.folder / command
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def ending(tmp_path):
    """A Slurm whose runs end at once."""
    return Slurm(tmp_path, "exit ${RL_TRAIN_STATUS:-0}")


def touch(path, seconds, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (seconds, seconds))


NEWEST, BEST = ["--resume"], ["--resume-from", "best"]


@pytest.mark.parametrize(
    ("checkpoint", "collapses", "expected"),
    [
        (None, None, []),
        (100, None, NEWEST),
        (100, (200, "op\n"), [*BEST, "--entropy-multiplier", "op=2"]),
        (300, (200, "op\n"), [*NEWEST, "--entropy-multiplier", "op=2"]),
        (
            100,
            (200, "op\nslot\nop\n"),
            [*BEST, "--entropy-multiplier", "op=3", "--entropy-multiplier", "slot=2"],
        ),
    ],
)
def test_a_requeued_job_goes_on_from_where_it_should(ending, checkpoint, collapses, expected):
    if checkpoint:
        touch(ending.checkpoint / "checkpoint.pt", checkpoint)
    if collapses:
        touch(ending.checkpoint / "collapses", *collapses)
    assert ending.finished("--env", "heads") == (0, "")
    (line,) = ending.told("rl-train")
    assert line.split("--env heads")[1].split() == expected
    assert "--run-id watched-4711 " in line
    assert ending.told("scontrol") == []


def test_the_status_of_the_run_is_that_of_the_job(ending):
    assert ending.finished(RL_TRAIN_STATUS="3")[0] == 3
    assert ending.told("scontrol") == []


def test_it_asks_its_run_where_the_run_says_that_it_listens(tmp_path):
    slurm = Slurm(tmp_path, "sleep 1")
    slurm.stub("rl-exporter", f'echo "$@" >>{tmp_path}/rl-exporter')
    for name, job, address in (("watched-4711", "4711", "node1:41234"), ("watched-47110", "47110", "node2:9")):
        entry = [{"targets": [address], "labels": {"slurm_job": job, "__scheme__": "https"}}]
        (tmp_path / f"targets/{name}.run.json").write_text(json.dumps(entry))
    assert slurm.finished(RL_HTTP_CONFIG="client.yml") == (0, "")
    assert set(slurm.told("rl-exporter")) == {
        "watch --once --json --http.config.file client.yml https://node1:41234"
    }


@pytest.mark.slow
def test_a_collapse_goes_back_to_the_best_checkpoint_and_not_for_ever(tmp_path):
    slurm = Slurm(tmp_path, f'exec {BIN}/rl-train "$@"')
    quick = {"RL_PATIENCE": "0.2"}
    status, said = slurm.finished(*DRILL, "--updates", "2000", "--linger", "0", **quick)
    assert status == 0, said
    assert "watched-4711: collapsed: blueprint; back to the best checkpoint" in said.replace(" ;", ";")
    assert slurm.told("scontrol") == ["requeue 4711"]
    assert (slurm.checkpoint / "collapses").read_text() == "blueprint\n"
    with slurm.start(*DRILL, "--updates", "2000", "--linger", "0", RL_PATIENCE="600") as job:
        deadline = time.monotonic() + 300
        newest = slurm.checkpoint / "checkpoint.pt"
        while newest.stat().st_mtime <= (slurm.checkpoint / "collapses").stat().st_mtime:
            assert time.monotonic() < deadline
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.1)
        job.terminate()  # Slurm, before the time limit
        said = job.communicate(timeout=300)[1]
    assert "Traceback" not in said
    assert slurm.told("rl-train")[1].endswith("--resume-from best --entropy-multiplier blueprint=2")
    assert slurm.told("scontrol") == ["requeue 4711"]
    status, said = slurm.finished(
        *DRILL, "--updates", "2000", "--linger", "0", "--entropy-coef", "0", **quick, RL_MOST_RETURNS="1"
    )
    assert (status, "giving up" in said) == (1, True), said
    assert slurm.told("rl-train")[2].endswith("--resume --entropy-multiplier blueprint=2")
    assert slurm.told("scontrol") == ["requeue 4711"]
