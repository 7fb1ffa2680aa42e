"""The first signal ends a run between updates, the second at once, whatever the run is busy with."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rl_training.run.signals import StopSignals
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HANGING = """
import time
from pathlib import Path
import gymnasium, numpy


class Hanging(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(0, 1, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self, at, said):
        self.at, self.said, self.steps = at, Path(said), 0
        self.hang("constructor")

    def hang(self, where):
        if self.at == where:
            self.said.touch()
            time.sleep(600)

    def reset(self, *, seed=None, options=None):
        return numpy.zeros(1, numpy.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 20:
            self.hang("step")
        return numpy.zeros(1, numpy.float32), 1.0, self.steps % 4 == 0, False, {}


gymnasium.register("Hanging-v0", Hanging)
"""
ANOTHER = 3
"""Seconds until a signal counts as another one, also where the machine is busy and the first is noticed late."""


@pytest.fixture
def start(tmp_path):
    """Start rl-train in an environment that hangs at a place, and wait until it does."""
    (tmp_path / "hanging.py").write_text(HANGING)
    started = []

    def begin(at, *more):
        said = tmp_path / "said"
        command = [sys.executable, "-m", "rl_training", "--env", "hanging:Hanging-v0", "--env-arg", f"at={at}"]
        command += ["--env-arg", f"said={said}", "--num-envs", "1", "--rollout-steps", "16", "--run-id", "cut"]
        command += ["--listen", "127.0.0.1:0", "--checkpoint", str(tmp_path / "kept"), *more]
        paths = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
        started.append(
            subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": paths},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        if at != "never":
            until(said.exists)
        return started[0]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_a_run_whose_environment_hangs(start, number, tmp_path):
    process = start("step")
    process.send_signal(number)
    time.sleep(ANOTHER)
    assert process.poll() is None, "it ends after this update"
    process.send_signal(number)
    out, err = process.communicate(timeout=120)  # it does not linger for the 270 s of --linger
    assert (process.returncode, err) == (0, "")
    assert out.endswith("run cut interrupted\n")
    assert list((tmp_path / "kept").iterdir()), "the checkpoint of the update before"


def test_two_signals_at_once_are_one():
    with StopSignals() as signals, signals.ending_at_once():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert (signals.count, signals.at_once) == (2, False)
        time.sleep(0.6)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signals.at_once


def test_before_the_run_has_begun_nothing_of_it_is_said(start):
    process = start("constructor")
    process.send_signal(signal.SIGINT)
    time.sleep(ANOTHER)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 130


def test_a_signal_ends_the_pace(start):
    process = start("never", "--pace", "1e6", "--linger", "0")
    assert any("update 1 " in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "run cut interrupted" in out
