"""What the runs of each trainer on each row came to: kept beside the page, which is written from it.

One row can so be trained anew without the logs of all others, which take many hours and hundreds of files.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_runs.jobs import Job, made_now
from benchmarks.learning_runs.log import Made, RunLog
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.rows import Row

POINTS = 60
"""Of a curve: a picture of more would be larger than a file of this project may be."""


@dataclass(frozen=True, slots=True)
class Point:
    """The seeds' mean returns of 100 episodes after so many environment steps."""

    steps: int
    lowest: float
    mean: float
    highest: float


@dataclass(frozen=True, slots=True)
class Result:
    """The complete runs of one trainer, with its own settings, on one row."""

    row: str
    who: str
    settings: Mapping[str, Any]
    """What decides the runs, as in :class:`Made`, without the seed."""
    code: str
    """Digest of the sources that decide the runs; empty where it is not known."""
    seeds: int
    median: float
    lowest: float
    highest: float
    """Of the ends of the runs."""
    curve: tuple[Point, ...]

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f}; {seeds(self.seeds)})"


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return f"{count} seed" + "s" * (count != 1)


def results(chosen: Iterable[Row], logs: Mapping[Job, RunLog]) -> list[Result]:
    """What these logs come to. Runs with settings that differ from those of the row have no result."""
    found = []
    for row in chosen:
        of: dict[str, list[RunLog]] = {}
        for job, log in logs.items():
            if job.row == row.name and not job.overrides:
                of.setdefault(job.who, []).append(log)
        found += [_result(row, who, runs) for who, runs in of.items()]
    return found


def _result(row: Row, who: str, runs: list[RunLog]) -> Result:
    ends = [run.end for run in runs]
    made = runs[0].made
    bounds = (statistics.median(ends), min(ends), max(ends))
    return Result(row.name, who, _without_seed(made), made.code, len(runs), *bounds, _curve(row, runs))


def _curve(row: Row, runs: list[RunLog]) -> tuple[Point, ...]:
    # Where a run has no value yet, none of its episodes had ended.
    at = np.linspace(0, row.steps, POINTS)
    curves = np.stack([np.interp(at, run.steps, run.returns, left=np.nan) for run in runs])
    bounds = zip(at, curves.min(0), curves.mean(0), curves.max(0), strict=True)
    return tuple(
        Point(round(steps), *(round(float(value), 4) for value in values))
        for steps, *values in bounds
        if not np.isnan(values).any()
    )


def _without_seed(made: Made) -> dict[str, Any]:
    settings = dict(made.settings)
    if "run" in settings:
        settings["run"] = {key: value for key, value in settings["run"].items() if key != "seed"}
    return settings


def merged(kept: Iterable[Result], new: Iterable[Result]) -> list[Result]:
    """The new results, and the kept ones that no new one of as many seeds replaces."""
    every = {(result.row, result.who): result for result in kept}
    for result in new:
        before = every.get((result.row, result.who))
        if before is None or result.seeds >= before.seeds:
            every[result.row, result.who] = result
    return list(every.values())


def read(path: Path) -> list[Result]:
    """The results of a file; none where there is none."""
    if not path.exists():
        return []
    lines = json.loads(path.read_text(encoding="utf-8"))
    return [Result(**{**line, "curve": tuple(Point(*point) for point in line["curve"])}) for line in lines]


def write(path: Path, every: Iterable[Result]) -> None:
    """Write the file as a whole, one result a line."""
    partial = path.with_suffix(".partial")
    lines = (json.dumps({**asdict(one), "curve": [[*asdict(p).values()] for p in one.curve]}) for one in every)
    partial.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    partial.rename(path)


def of_now(every: Iterable[Result], chosen: Iterable[Row]) -> list[Result]:
    """The results that count, row by row, ours first: those with the settings of now.

    One with other settings gets a line on standard error.
    """
    found = {(result.row, result.who): result for result in every}
    counted = []
    for row in chosen:
        for who in (OURS, *row.peers):
            result = found.get((row.name, who))
            if result is None:
                continue
            if result.settings == _without_seed(made_now(Job(row.name, who, (), 0))):
                counted.append(result)
            else:
                sys.stderr.write(f"left out, made with other settings than those of now: {row.name}, {who}\n")
    return counted
