"""Draws the learning curves: of each row, the mean over the seeds and the band from lowest to highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.learning_runs.jobs import Job
from benchmarks.learning_runs.log import RunLog
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.report import seeds
from benchmarks.learning_runs.rows import SCRIPT, Row

COLUMNS = 2
COLOURS = ("tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink")
"""Of the peers of a row, in their order."""
POINTS = 60
"""Of a drawn curve: a picture of more would be larger than a file of this project may be."""


def draw(chosen: Sequence[Row], logs: Mapping[Job, RunLog], figure: Path) -> None:
    """Draw and write the figure."""
    # Fixed identifiers and no date: the same logs must give the same file.
    mpl.rcParams["svg.hashsalt"] = "learning"
    lines = -(-len(chosen) // COLUMNS)
    _, grid = plt.subplots(lines, COLUMNS, figsize=(9, 2.6 * lines), layout="constrained", squeeze=False)
    for axes, row in zip(grid.flat, chosen, strict=False):
        _panel(axes, row, {job: log for job, log in logs.items() if job.row == row.name})
    for axes in grid.flat[len(chosen) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("return")
    plt.savefig(figure, metadata={"Date": None})
    plt.close()


def _panel(axes: Axes, row: Row, logs: Mapping[Job, RunLog]) -> None:
    colours = {OURS: "tab:blue"} | dict(zip(row.peers, COLOURS, strict=False))
    for who in (*row.peers, OURS):
        of_who = [log for job, log in logs.items() if job.who == who and not job.overrides]
        if who == SCRIPT:
            _level(axes, of_who)
        elif of_who:
            _curve(axes, of_who, row.steps, who, colours[who])
    axes.set_title(f"{row.name}: {row.steps:,} steps", fontsize="medium")
    axes.set_xlim(0, row.steps)
    axes.set_xlabel("environment steps", fontsize="small")
    axes.grid(alpha=0.3)
    if logs:
        axes.legend(fontsize="x-small", loc="lower right")


def _curve(axes: Axes, logs: Sequence[RunLog], steps: int, who: str, colour: str) -> None:
    # Where a curve has no value yet, no episode had ended.
    at = np.linspace(0, steps, POINTS)
    curves = np.stack([np.interp(at, log.steps, log.returns, left=np.nan) for log in logs])
    shown = ~np.isnan(curves).any(0)
    at, curves = at[shown], curves[:, shown]
    axes.fill_between(at, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(at, curves.mean(0), color=colour, label=f"{who}, {seeds(len(logs))}")


def _level(axes: Axes, logs: Sequence[RunLog]) -> None:
    if logs:
        mean = float(np.mean([log.end for log in logs]))
        axes.axhline(mean, color="dimgrey", linestyle="--", label=f"{SCRIPT} ({mean:.2f})")
