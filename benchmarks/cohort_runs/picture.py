"""Draws docs/verdict.svg: a collapse and a solved run, whose choice entropies fall alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.cohort_runs.judgement import Result
from rl_exporter.health import DEFAULT_THRESHOLDS

PANELS = (
    ("drill-blueprint", "blueprint", "a drill: one action pays in every state"),
    ("solved-6-contexts", "slot", "a solved run: the state says which action pays"),
)
"""Kind, head and title of each half; the first seed is drawn."""


def draw(results: Sequence[Result], figure: Path) -> None:
    """Draw and write the figure. Raises ValueError where a run that it shows is missing."""
    first = {result.recipe.name: result for result in reversed(results)}
    if missing := [kind for kind, *_ in PANELS if kind not in first]:
        raise ValueError(f"the picture shows runs that are not there: {', '.join(missing)}")
    # Fixed identifiers and no date: the same logs must give the same file.
    mpl.rcParams["svg.hashsalt"] = "verdict"
    _, (entropies, informations) = plt.subplots(
        2, len(PANELS), figsize=(8, 5), sharex="col", sharey="row", layout="constrained"
    )
    for upper, lower, (kind, head, title) in zip(entropies, informations, PANELS, strict=True):
        _panel(upper, lower, first[kind], head)
        upper.set_title(f"{title}\n(head {head})", fontsize="medium")
    entropies[0].set_ylabel("choice entropy")
    informations[0].set_ylabel("state information, nats")
    plt.savefig(figure, metadata={"Date": None})
    plt.close()


def _panel(upper: Axes, lower: Axes, result: Result, head: str) -> None:
    measured = [update.heads[head] for update in result.log.updates]
    numbers = range(1, len(measured) + 1)
    upper.plot(numbers, [_drawn(one.choice_entropy) for one in measured], color="tab:blue")
    upper.axhspan(0.0, DEFAULT_THRESHOLDS.critical, color="tab:red", alpha=0.12, linewidth=0)
    upper.set_ylim(0, 1.02)
    lower.plot(numbers, [_drawn(one.state_information) for one in measured], color="tab:green")
    lower.set_ylim(0, 1.1)
    lower.set_xlabel("update")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)


def _drawn(value: float | None) -> float:
    return float("nan") if value is None else value
