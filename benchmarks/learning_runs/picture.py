"""Draws the learning curves: of each row, the mean over the seeds and the band from lowest to highest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.results import Result, seeds
from benchmarks.learning_runs.rows import SCRIPT, Row

COLUMNS = 2
COLOURS = ("tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink")
"""Of the peers of a row, in their order."""


def draw(chosen: Sequence[Row], every: Sequence[Result], figure: Path) -> None:
    """Draw and write the figure."""
    # Fixed identifiers and no date: the same results must give the same file.
    mpl.rcParams["svg.hashsalt"] = "learning"
    lines = -(-len(chosen) // COLUMNS)
    _, grid = plt.subplots(lines, COLUMNS, figsize=(12, 2.6 * lines), layout="constrained", squeeze=False)
    for axes, row in zip(grid.flat, chosen, strict=False):
        _panel(axes, row, [result for result in every if result.row == row.name])
    for axes in grid.flat[len(chosen) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("return")
    plt.savefig(figure, metadata={"Date": None})
    plt.close()


def _panel(axes: Axes, row: Row, every: Sequence[Result]) -> None:
    colours = {OURS: "tab:blue"} | dict(zip(row.peers, COLOURS, strict=False))
    # Ours last, and so on top.
    for result in sorted(every, key=lambda one: [*row.peers, OURS].index(one.who)):
        if result.who == SCRIPT:
            level = result.curve[-1].mean
            axes.axhline(level, color="dimgrey", linestyle="--", label=f"{SCRIPT} ({level:.2f})")
        else:
            _curve(axes, result, colours[result.who])
    axes.set_title(f"{row.name}: {row.steps:,} steps", fontsize="medium")
    axes.set_xlim(0, row.steps)
    axes.set_xlabel("environment steps", fontsize="small")
    axes.grid(alpha=0.3)
    if every:
        # Beside the panel: a curve may end anywhere.
        axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5))


def _curve(axes: Axes, result: Result, colour: str) -> None:
    at = [point.steps for point in result.curve]
    low, high = ([getattr(point, name) for point in result.curve] for name in ("lowest", "highest"))
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    label = f"{result.who}, {seeds(result.seeds)}"
    axes.plot(at, [point.mean for point in result.curve], color=colour, label=label)
