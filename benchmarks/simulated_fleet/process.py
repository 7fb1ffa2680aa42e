"""A process with several simulated runs, until SIGTERM: ``python -m benchmarks.simulated_fleet.process``."""

from __future__ import annotations

import argparse
import heapq
import logging
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
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups

BRIEF_SECONDS = 45.0
_ENDING = 64
"""Number of runs that can wait for their last scrape at once."""


class SimulationProcess:
    """Keeps ``runs`` simulated runs up, and replaces each after ``life`` seconds on average.

    A run has a target file in ``targets`` from its start until a scrape has seen its end.
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
        """Run the due actions, until the parent process has gone."""
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
    """Simulate runs of less than a minute, which leave the series that earlier runs would have left."""
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
    """Write a target file. The partial file is outside the folder, which Prometheus watches."""
    partial = targets.parent / f".{name}.partial"
    partial.write_bytes(dump_groups(TargetGroup(addresses, {"cluster": "fleet"})))
    return partial.rename(targets / f"{name}.json")


def main() -> None:
    """Entry point. Prints a line once every run can be scraped, or once brief runs have ended."""
    # A line for every run that ends would hide the table.
    logging.getLogger("rl_exporter").setLevel(logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", type=Path)
    parser.add_argument("name")
    parser.add_argument("runs", type=int)
    parser.add_argument("life", type=float, nargs="?", help="mean seconds; without: all of them are brief")
    options = parser.parse_args()
    # A waiting thread requests the interpreter at this interval. With the default, 200 times a second,
    # thousands of waiting threads would use up the cores.
    sys.setswitchinterval(0.2)
    os.nice(19)  # Real runs are on other machines: the measured server gets the CPU first.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if options.life is None:
        work_briefly(options.targets, options.name, options.runs)
    else:
        process = SimulationProcess(options.targets, options.name, options.runs, options.life)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if options.life is not None:
        process.work()


if __name__ == "__main__":
    main()
