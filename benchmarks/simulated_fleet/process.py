"""One process with several simulated runs: ``python -m benchmarks.simulated_fleet.process``, until SIGTERM."""

from __future__ import annotations

import argparse
import heapq
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from random import Random

from benchmarks.simulated_fleet.run import SimulatedRun
from rl_exporter.discovery.file_sd import Group, dump_groups

BRIEF_SECONDS = 45.0
_ENDING = 64
"""How many runs can wait for their last scrape at once."""


class Process:
    """``runs`` simulated runs at a time; each is followed by another after ``life`` seconds in the mean.

    Every run has one discovery file in ``targets``, from its first moment until its end was scraped.
    """

    def __init__(self, targets: Path, name: str, runs: int, life: float) -> None:
        self._targets = targets
        self._name = name
        self._life = life
        self._numbers = count()
        self._order = count()
        self._random = Random(name)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ending = ThreadPoolExecutor(_ENDING)
        for _ in range(runs):
            self._begin()

    def work(self) -> None:
        """Do what is due next, for as long as the parent lives."""
        parent = os.getppid()
        while os.getppid() == parent:
            due, _, action = heapq.heappop(self._agenda)
            time.sleep(max(0.0, due - time.monotonic()))
            action()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time.monotonic() + seconds, next(self._order), action))

    def _begin(self) -> None:
        run = SimulatedRun(f"{self._name}-{next(self._numbers):04}", self._random)
        entry = write_entry(self._targets, run.run_id, [run.address])
        life = self._random.expovariate(1 / self._life)
        ends = time.monotonic() + life

        def update() -> None:
            run.update()
            if time.monotonic() + run.period < ends:
                self._later(run.period, update)

        def end() -> None:
            self._ending.submit(_end, [run], entry)
            self._begin()

        self._later(min(self._random.uniform(0, run.period), life / 2), update)
        self._later(life, end)


def work_briefly(targets: Path, name: str, runs: int) -> None:
    """Runs that are there for less than a minute: they leave behind what earlier runs would have left."""
    random = Random(name)
    begun = [SimulatedRun(f"{name}-{number:04}", random) for number in range(runs)]
    for run in begun:
        run.update()
    entry = write_entry(targets, name, [run.address for run in begun])
    time.sleep(BRIEF_SECONDS)
    _end(begun, entry)


def _end(runs: Sequence[SimulatedRun], entry: Path) -> None:
    with ThreadPoolExecutor(len(runs)) as ending:
        list(ending.map(SimulatedRun.end, runs))
    entry.unlink()


def write_entry(targets: Path, name: str, addresses: Sequence[str]) -> Path:
    """Let Prometheus discover runs; the partial file is beside the folder, which Prometheus watches."""
    partial = targets.parent / f".{name}.partial"
    partial.write_bytes(dump_groups(Group(addresses, {"cluster": "fleet"})))
    return partial.rename(targets / f"{name}.json")


def main() -> None:
    """Entry point; prints a line once every run can be scraped, brief ones when they have ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", type=Path)
    parser.add_argument("name")
    parser.add_argument("runs", type=int)
    parser.add_argument("life", type=float, nargs="?", help="mean seconds; without: all of them are brief")
    options = parser.parse_args()
    # Whoever waits for the interpreter asks for it as often as this. By default that is 200 times a second for
    # each of thousands of threads, and would be all that the cores do.
    sys.setswitchinterval(0.2)
    os.nice(19)  # Runs are on other machines in truth: whoever is measured here goes first.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if options.life is None:
        work_briefly(options.targets, options.name, options.runs)
    else:
        process = Process(options.targets, options.name, options.runs, options.life)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if options.life is not None:
        process.work()


if __name__ == "__main__":
    main()
