"""Runs many simulated runs in several processes, listed for Prometheus' file-based discovery."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

RUNS_PER_PROCESS = 25
"""A compromise: more runs in a process save memory, but a scrape reads all threads and files of the process."""

LIFE_SECONDS = 8 * 3600.0
"""Mean life of a run."""

_ROOT = Path(__file__).parents[2]
"""The checkout. The processes import ``benchmarks`` from it, because no installed package contains it."""


class FleetError(RuntimeError):
    """The fleet cannot start. The message gives the reason and the remedy."""


@contextmanager
def fleet(targets: Path, runs: int, life: float | None = LIFE_SECONDS, name: str = "fleet") -> Iterator[None]:
    """Keep ``runs`` runs up, each with a target file in ``targets``. All can be scraped when the block begins.

    A run lives ``life`` seconds on average and is then replaced. With None, the runs live less than a minute,
    are not replaced, and have all ended when the block begins. Raises FleetError if a process ends at once.
    """
    targets.mkdir(parents=True, exist_ok=True)
    sizes = [min(RUNS_PER_PROCESS, runs - first) for first in range(0, runs, RUNS_PER_PROCESS)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_process(targets, f"{name}-{number:02}", size, life))
            for number, size in enumerate(sizes)
        ]
        for process in processes:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise FleetError("a process of simulated runs ended at once; its error is above")
        yield


@contextmanager
def _process(targets: Path, name: str, runs: int, life: float | None) -> Iterator[subprocess.Popen[str]]:
    numbers = [str(number) for number in (runs, life) if number is not None]
    command = [
        sys.executable,
        "-m",
        "benchmarks.simulated_fleet.process",
        str(targets.resolve()),
        name,
        *numbers,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
        for entry in targets.glob(f"{name}*.json"):
            entry.unlink(missing_ok=True)
