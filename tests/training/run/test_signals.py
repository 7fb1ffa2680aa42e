"""The first signal ends a run between updates, the second at once, whatever the run is busy with."""

import signal
import subprocess
import sys
import time

import pytest

from rl_training.run.signals import StopSignals
from tests.support import ROOT
from tests.support.waiting import until

pytestmark = pytest.mark.slow

ENV = "tests.support.hanging_environment:Hanging-v0"
ANOTHER = 3
"""Seconds until a signal counts as another one, also where the machine is busy and the first is noticed late."""


@pytest.fixture
def start(tmp_path):
    """Start rl-train in an environment that hangs at a place, and wait until it does."""
    started = []

    def begin(at, *more):
        said = tmp_path / "said"
        command = [sys.executable, "-m", "rl_training", "--env", ENV, "--env-arg", f"at={at}"]
        command += ["--env-arg", f"said={said}", "--num-envs", "1", "--rollout-steps", "16", "--run-id", "cut"]
        command += ["--listen", "127.0.0.1:0", "--checkpoint", str(tmp_path / "kept"), *more]
        started.append(
            subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
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
    with StopSignals(second_ends=True) as signals, signals.ending_at_once():
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
