"""Writes what the ends of the runs say: a table for the page, and one for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.learning_runs.jobs import Job
from benchmarks.learning_runs.log import RunLog
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.rows import ROOT, Row
from benchmarks.marked_page import replaced

BEGIN, END = "<!-- learning: begin -->\n", "<!-- learning: end -->\n"

NOT_TRAINED = "not trained"


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of the runs of one trainer on one row."""

    who: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the seeds."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        return f"{self.median:.2f} ({spread}; {seeds(len(self.values))})"


def seeds(count: int) -> str:
    """A number of seeds in words."""
    return f"{count} seed" + "s" * (count != 1)


def ends(row: Row, logs: Mapping[Job, RunLog]) -> list[Ends]:
    """Ours first, each variant apart, then the peers, without those that have no log."""
    values: dict[str, list[float]] = {}
    for job, log in logs.items():
        if job.row == row.name:
            values.setdefault(" ".join((job.who, *job.overrides)), []).append(log.end)
    order = {who: index for index, who in enumerate(row.peers)}
    names = sorted(values, key=lambda who: (order.get(who, -1), who))
    return [Ends(name, tuple(values[name])) for name in names]


def written(page: str, chosen: Sequence[Row], logs: Mapping[Job, RunLog]) -> str:
    """Replace what stands between the markers of ``page``. Raises ValueError where it has none."""
    return replaced(page, BEGIN, END, tables(chosen, logs))


def tables(chosen: Sequence[Row], logs: Mapping[Job, RunLog]) -> str:
    """The table of the ends, and the commands, as Markdown."""
    results = _table(("row", "environment steps", f"`{OURS}`", "peers", "difference"), _results(chosen, logs))
    commands = _table(("row", "command"), ((f"`{row.name}`", f"`{shown_command(row)}`") for row in chosen))
    return f"\n{results}\n{_packages(logs)}{commands}\n"


def _packages(logs: Mapping[Job, RunLog]) -> str:
    """What the peers were; nothing before the first of them has a log."""
    packages = [log.made.settings["packages"] for log in logs.values() if "packages" in log.made.settings]
    if not packages:
        return ""
    return f"The peers ran with {', '.join(f'{name} {of}' for name, of in packages[0].items())}.\n\n"


def shown_command(row: Row) -> str:
    """The command line of a row, as a reader in a clone would type it."""
    limit = () if "--updates" in row.words else ("--updates", "…")
    words = " ".join((OURS, *row.words, *limit, "--seed", "…"))
    return words.replace(f"{ROOT}/", "")


def _results(chosen: Iterable[Row], logs: Mapping[Job, RunLog]) -> Iterator[tuple[str, ...]]:
    for row in chosen:
        found = {one.who: one for one in ends(row, logs)}
        peers = [f"{who} {found.get(who, NOT_TRAINED)}" for who in row.peers]
        own = str(found.get(OURS, NOT_TRAINED))
        yield (f"`{row.name}`", f"{row.steps:,}", own, ", ".join(peers), _gap(found, row.peers))


def _gap(found: Mapping[str, Ends], peers: Sequence[str]) -> str:
    """Our median less that of the best peer."""
    medians = [found[who].median for who in peers if who in found]
    if OURS not in found or len(medians) < len(peers):
        return "-"
    return f"{found[OURS].median - max(medians):+.2f}"


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = (columns, ["---"] * len(columns), *lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in every)


def text(chosen: Iterable[Row], logs: Mapping[Job, RunLog]) -> str:
    """A compact table: one line for each trainer of each row, and every end in the order of the seeds."""
    lines = [f"{'row':<17} {'steps':>8} {'median':>8} {'min':>8} {'max':>8}  who: each seed"]
    for row in chosen:
        for one in ends(row, logs):
            numbers = f"{one.median:8.2f} {min(one.values):8.2f} {max(one.values):8.2f}"
            each = " ".join(f"{value:.2f}" for value in one.values)
            lines.append(f"{row.name:<17} {row.steps:>8} {numbers}  {one.who}: {each}")
    return "\n".join(lines)
