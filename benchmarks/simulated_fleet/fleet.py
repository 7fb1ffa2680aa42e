"""Many simulated runs in several processes, listed for Prometheus' file discovery."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

RUNS_PER_PROCESS = 25
"""More save memory and cost CPU: at each scrape a run reads what its process uses, threads and files of all."""

LIFE_SECONDS = 8 * 3600.0
"""Mean life of a run."""

_FOLDER = Path(__file__).parents[2]


class FleetError(RuntimeError):
    """The fleet cannot be started; the message says why and what to do."""


@contextmanager
def fleet(targets: Path, runs: int, life: float | None = LIFE_SECONDS, name: str = "fleet") -> Iterator[None]:
    """``runs`` runs at any time, with a discovery file each in ``targets``; all are there when this begins.

    They live ``life`` seconds in the mean. Where it is None, they run for less than a minute and without
    successors, and all of them have ended when this begins. Raises FleetError when a process ends at once.
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
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_FOLDER)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()
        for entry in targets.glob(f"{name}*.json"):
            entry.unlink(missing_ok=True)
