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

from benchmarks.learning_runs.jobs import OTHER_SETTINGS, Job, made_now
from benchmarks.learning_runs.log import Made, RunLog, made_from
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.rows import Row, rows

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

    made: Made
    """How the first of them was made. Its ``code`` is empty where it is not known."""
    seeds: int
    median: float
    lowest: float
    highest: float
    """Of the ends of the runs."""
    curve: tuple[Point, ...]

    @property
    def row(self) -> str:
        """The name of the row."""
        return self.made.row

    @property
    def who(self) -> str:
        """Who trained."""
        return self.made.who

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f}; {seeds(self.seeds)})"


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return f"{count} seed" + "s" * (count != 1)


def by_trainer(row: Row, logs: Mapping[Job, RunLog]) -> list[tuple[str, list[RunLog]]]:
    """The runs of a row: ours first, each variant apart, then the peers, without those that have no log."""
    runs: dict[str, list[RunLog]] = {}
    for job, log in logs.items():
        if job.row == row.name:
            runs.setdefault(" ".join((job.who, *job.overrides)), []).append(log)
    order = {who: index for index, who in enumerate(row.peers)}
    return sorted(runs.items(), key=lambda one: (order.get(one[0], -1), one[0]))


def results(chosen: Iterable[Row], logs: Mapping[Job, RunLog]) -> list[Result]:
    """What these logs come to. Runs with settings that differ from those of the row have no result."""
    of_rows = {job: log for job, log in logs.items() if not job.overrides}
    return [_result(row, runs) for row in chosen for _, runs in by_trainer(row, of_rows)]


def _result(row: Row, runs: list[RunLog]) -> Result:
    ends = [run.end for run in runs]
    return Result(runs[0].made, len(runs), statistics.median(ends), min(ends), max(ends), _curve(row, runs))


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


def merged(kept: Iterable[Result], new: Iterable[Result]) -> list[Result]:
    """In the order of the page: new results, and the kept ones that no new one of as many seeds replaces."""
    every = {(result.row, result.who): result for result in kept}
    for result in new:
        before = every.get((result.row, result.who))
        if before is None or result.seeds >= before.seeds:
            every[result.row, result.who] = result
    return [every[place] for place in _places() if place in every]


def of_now(every: Iterable[Result]) -> list[Result]:
    """The results that count: those with the settings of now. Each other one gets a line on standard error."""
    places, counted = _places(), []
    for result in every:
        job = Job(result.row, result.who, (), result.made.seed)
        if (job.row, job.who) in places and result.made.settings == made_now(job).settings:
            counted.append(result)
        else:
            sys.stderr.write(f"{OTHER_SETTINGS}: {job.row}, {job.who}\n")
    return counted


def _places() -> list[tuple[str, str]]:
    """Each row and who trains on it, in the order of the page."""
    return [(row.name, who) for row in rows() for who in (OURS, *row.peers)]


def read(path: Path) -> list[Result]:
    """The results of a file; none where there is none."""
    if not path.exists():
        return []
    return [_read(line) for line in json.loads(path.read_text(encoding="utf-8"))]


def _read(line: Mapping[str, Any]) -> Result:
    curve = tuple(Point(*point) for point in line["curve"])
    return Result(**{**line, "made": made_from(line["made"]), "curve": curve})


def write(path: Path, every: Iterable[Result]) -> None:
    """Write the file as a whole, one result a line."""
    partial = path.with_suffix(".partial")
    lines = (json.dumps({**asdict(one), "curve": [[*asdict(p).values()] for p in one.curve]}) for one in every)
    partial.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    partial.rename(path)
