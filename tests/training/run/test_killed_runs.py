"""A kill at any moment leaves a whole checkpoint, from which the run goes on."""

import os
import random
import signal
import subprocess
import sys
import urllib.request

import pytest

from rl_exporter import parse_snapshot
from rl_training.run.checkpoint import load, save
from rl_training.run.checkpoint_folder import CheckpointError
from stack.processes import free_address
from tests.support.waiting import until
from tests.training.run.test_checkpoint import FIXED, setup


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_checkpoint_50_times(tmp_path):
    """A forked child writes without end; 50 times it is killed somewhere within a write."""
    chance = random.Random(0)
    agent, collector, aggregator = setup()
    for attempt in range(50):
        collector.episodes[:] = 1000 * attempt
        writer = os.fork()
        if writer == 0:
            try:
                while True:
                    collector.episodes += 1
                    save(tmp_path, agent, collector, aggregator.snapshot())
            finally:
                os._exit(1)
        until(lambda attempt=attempt: written(tmp_path, agent) > 1000 * attempt, every=0.002)
        until(lambda writer=writer: stopped_within_a_write(writer, tmp_path), every=chance.random() * 0.005)
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        assert (tmp_path / "checkpoint.pt.writing").exists()
        resumed = load(tmp_path, agent)
        agent.restore(resumed.agent)
        assert 1000 * attempt < resumed.progress["episodes"][0] < 1000 * (attempt + 1)


def stopped_within_a_write(writer, folder):
    """Stop the writer; let it continue unless it has begun a file and not yet put it in its place.

    A kill at a random moment falls between two writes more often the busier the machine is.
    """
    os.kill(writer, signal.SIGSTOP)
    os.waitpid(writer, os.WUNTRACED)
    if (folder / "checkpoint.pt.writing").exists():
        return True
    os.kill(writer, signal.SIGCONT)
    return False


def written(folder, agent):
    try:
        return load(folder, agent).progress["episodes"][0]
    except CheckpointError:
        return -1


def counters(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as response:
        return parse_snapshot(response.read().decode())


def scraped_until(address, updates):
    def found():
        snapshot = counters(address)
        return snapshot.tamiyo.updates >= updates and snapshot

    return until(found, 120)


def seen(histogram):
    return sum(histogram.counts)


@pytest.mark.slow
def test_metrics_never_go_backwards_over_a_kill_and_a_resume(tmp_path):
    address = free_address()
    command = [
        *(sys.executable, "-m", "rl_training", *FIXED, "--checkpoint", str(tmp_path / "state"), "--quiet"),
        *("--listen", address, "--updates", "1000000"),
    ]
    process = subprocess.Popen(command)
    try:
        before = scraped_until(address, 5)
        process.kill()
        process.wait()
        process = subprocess.Popen([*command, "--resume"])
        after = scraped_until(address, 1)
        assert after.run == before.run
        assert after.tamiyo.updates >= before.tamiyo.updates
        assert after.environment_steps >= before.environment_steps
        assert after.episodes >= before.episodes
        assert seen(after.update_durations) >= seen(before.update_durations)
        for name, reading in before.tamiyo.readings.items():
            resumed = after.tamiyo.readings[name]
            assert seen(resumed.effective_histogram) >= seen(reading.effective_histogram)
        scraped_until(address, after.tamiyo.updates + 2)
    finally:
        process.kill()
        process.wait()
