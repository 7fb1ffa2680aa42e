"""A real run of which a test knows every update: from its log, its /metrics, and what the kernel says that it used."""

import contextlib
import http.client
import os
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stack.processes import free_address
from tests.support.small_runs import lines_so_far
from tests.support.waiting import until

RUN = (
    *("--env", "heads", "--env-arg", "noise=20", "--learning-rate", "1e-5"),
    *("--num-envs", "8", "--rollout-steps", "16", "--epochs", "4"),
)
"""Nothing is learned, so every head stays near its maximum: no rule about entropy has a reason to fire."""


class Mark(NamedTuple):
    """The end of an update: when, which, and CPU seconds of the thread that trains and of all threads."""

    time: float
    update: int
    training: float
    everything: float


class Trainer:
    """A run, its log, and what the kernel says that it used."""

    def __init__(self, stack, name, register, checkpoint, folder):
        self.name, self.address, self.log = name, free_address(), folder / f"{name}.jsonl"
        command = [
            sys.executable,
            "-m",
            "rl_training",
            *RUN,
            "--run-id",
            name,
            "--listen",
            self.address,
            "--quiet",
        ]
        command += ["--updates", "1000000", "--linger", "60", "--log-json", str(self.log)]
        command += ["--register", str(register), "--checkpoint", str(checkpoint)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = stack.start(name, *command, environment=environment).popen
        self.marks = []
        until(self.log.exists)
        threading.Thread(target=self.watch, daemon=True).start()

    def lines(self):
        return lines_so_far(self.log)

    def updates(self):
        return self.marks[-1].update if self.marks else 0

    def watch(self):
        """Note, at the end of each update, what the kernel says that the run has used."""
        with self.log.open("rb") as log:
            while self.process.poll() is None:
                lines = log.read().count(b"\n")
                if lines:
                    with contextlib.suppress(OSError):
                        self.marks.append(self._mark(self.updates() + lines))
                time.sleep(0.02)

    def _mark(self, update):
        training, everything = (self._seconds(task) for task in (f"task/{self.process.pid}", "."))
        return Mark(time.monotonic(), update, training, everything)

    def _seconds(self, task):
        text = Path(f"/proc/{self.process.pid}", task, "stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def price(self, part, begin, end):
        """CPU seconds of an update between two times; None where it did too few to tell."""
        within = [mark for mark in self.marks if begin <= mark.time < end]
        updates = within[-1].update - within[0].update if within else 0
        return (getattr(within[-1], part) - getattr(within[0], part)) / updates if updates >= 3 else None

    def scrape(self, seconds=10):
        """Values of /metrics, by name and labels without run_id."""
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=seconds)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return samples(connection.getresponse().read().decode())


def samples(text):
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for label, value in sorted(sample.labels.items()) if label != "run_id")
            found[(sample.name, *labels)] = sample.value
    return found


def logged(line):
    """A line of the log in the same form. Labels are nested in it: head, then the other one."""
    found = {}

    def walk(key, value):
        if isinstance(value, dict):
            for name, part in value.items():
                walk((*key, name), part)
        elif value is not None:
            found[key] = float(value)

    for name, value in line.items():
        if name != "update":
            walk((name,), value)
    return found


def differences(scraped, line):
    """What /metrics says of an update otherwise than the log does."""
    expected = logged(line)
    shown = {(key[0], *sorted(key[1:])): value for key, value in scraped.items()}
    wrong = {}
    for key, value in expected.items():
        there = shown.get((key[0], *sorted(key[1:])))
        if there != pytest.approx(value, rel=1e-12, nan_ok=True):
            wrong[key] = (value, there)
    return wrong
