"""Measures how fast the trainer trains, beside RecurrentPPO of sb3-contrib, and where its time goes.

    python -m benchmarks.trainer --write docs/benchmarks.md

Each trainer has a process of its own and one thread; they take turns, so that a slow phase of the machine
affects all of them, and CPU time counts. A ratio is the median over the turns, with the lowest and the highest.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.marked_page import replaced
from benchmarks.trainer_speed.setting import Cost, Setting
from benchmarks.trainer_speed.worker import FORGETFUL, OURS, RECURRENT, SHARED, SMALLER, Worker

BEGIN, END = "<!-- trainer: begin -->\n", "<!-- trainer: end -->\n"
UPDATES = 2
"""Of each trainer, in each turn. A rollout of 32 steps holds two episodes of ``heads``: RecurrentPPO is four
times as fast after a rollout in which no episode begins, so that shorter rollouts would differ by chance.
"""
PART_UPDATES = 4


class Comparison(NamedTuple):
    """What one width gave: costs of the turns by trainer, and the parts of our updates in CPU seconds."""

    setting: Setting
    costs: Mapping[str, Sequence[Cost]]
    parts: Mapping[str, float]
    products: float
    """CPU seconds of one of our updates within products of matrices."""


def main() -> None:
    """Measure, print, and write the page where one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, nargs="+", default=[128, 512], help="widths of encoder and LSTM")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    found = [compare(Setting(units), options.turns) for units in options.units]
    print(report(found))
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        options.write.write_text(replaced(page, BEGIN, END, report(found)), encoding="utf-8")


def compare(setting: Setting, turns: int) -> Comparison:
    """Let all trainers of one width take turns."""
    workers = {name: Worker(name, setting.units) for name in (OURS, RECURRENT, SHARED, SMALLER, FORGETFUL)}
    costs: dict[str, list[Cost]] = {name: [] for name in workers}
    try:
        for _ in range(turns):
            for name, worker in workers.items():
                costs[name].append(worker.run(UPDATES))
        products = workers[OURS].products(PART_UPDATES) / PART_UPDATES
        return Comparison(setting, costs, workers[OURS].parts(PART_UPDATES), products)
    finally:
        for worker in workers.values():
            worker.close()


def report(found: Sequence[Comparison]) -> str:
    """The tables, in Markdown."""
    rows = "".join(_rows(comparison) for comparison in found)
    parts = "".join(_part_rows(found))
    heads = " | ".join(f"{comparison.setting.units} units" for comparison in found)
    products = "".join(_product_rows(found))
    return f"""\
| units | trainer | steps/s | rollout | update | times `{RECURRENT}` |
| --- | --- | --- | --- | --- | --- |
{rows}
| part of an update of `{OURS}` | {heads} |
| --- |{" --- |" * len(found)}
{parts}
| products of matrices alone | {heads} |
| --- |{" --- |" * len(found)}
{products}"""


def _rows(comparison: Comparison) -> str:
    setting, costs = comparison.setting, comparison.costs
    lines = []
    for name, own in costs.items():
        rates = [peer.whole / cost.whole for peer, cost in zip(costs[RECURRENT], own, strict=True)]
        middle = Cost(*(statistics.median(column) / UPDATES for column in zip(*own, strict=True)))
        cells = (
            f"{setting.units}",
            f"`{name}`",
            f"{setting.steps / middle.whole:,.0f}",
            f"{1e3 * middle.rollout:,.0f} ms",
            f"{1e3 * middle.update:,.0f} ms",
            f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def _product_rows(found: Sequence[Comparison]) -> Sequence[str]:
    """What products of matrices take of our time, and the ratio that would remain if nothing else took any."""
    ours, peer = (
        [statistics.median(cost.whole for cost in each.costs[name]) / UPDATES for each in found]
        for name in (OURS, RECURRENT)
    )
    times = [f"{1e3 * each.products:,.0f} ms" for each in found]
    shares = [f"{each.products / whole:.0%}" for each, whole in zip(found, ours, strict=True)]
    bounds = [f"{whole / each.products:.1f}" for each, whole in zip(found, peer, strict=True)]
    rows = {"of an update": times, "share": shares, f"times `{RECURRENT}`, if all else took no time": bounds}
    return [f"| {name} | {' | '.join(cells)} |\n" for name, cells in rows.items()]


def _part_rows(found: Sequence[Comparison]) -> list[str]:
    """Shares of the parts, the largest of the first comparison first."""
    names = sorted(found[0].parts, key=lambda name: -found[0].parts[name])
    lines = []
    for name in names:
        shares = [f"{each.parts[name] / sum(each.parts.values()):.1%}" for each in found]
        lines.append(f"| {name} | {' | '.join(shares)} |\n")
    return lines


if __name__ == "__main__":
    main()
