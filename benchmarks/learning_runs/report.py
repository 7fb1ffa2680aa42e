"""Writes what the ends of the runs say: a table for the page, and one for the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.learning_runs.jobs import Job
from benchmarks.learning_runs.log import RunLog
from benchmarks.learning_runs.ours import OURS
from benchmarks.learning_runs.results import Result, by_trainer
from benchmarks.learning_runs.rows import ROOT, Row
from benchmarks.marked_page import replaced

BEGIN, END = "<!-- learning: begin -->\n", "<!-- learning: end -->\n"

NOT_TRAINED = "not trained"


def written(page: str, chosen: Sequence[Row], every: Sequence[Result]) -> str:
    """Replace what stands between the markers of ``page``. Raises ValueError where it has none."""
    return replaced(page, BEGIN, END, tables(chosen, every))


def tables(chosen: Sequence[Row], every: Sequence[Result]) -> str:
    """The table of the ends, and the commands, as Markdown."""
    ends = _table(("row", "environment steps", f"`{OURS}`", "peers", "difference"), _ends(chosen, every))
    commands = _table(("row", "command"), ((f"`{row.name}`", f"`{shown_command(row)}`") for row in chosen))
    return f"\n{ends}\n{_packages(every)}{commands}\n"


def _packages(every: Iterable[Result]) -> str:
    """What the peers were; nothing before the first of them is trained."""
    packages = [result.made.settings["packages"] for result in every if "packages" in result.made.settings]
    if not packages:
        return ""
    return f"The peers ran with {', '.join(f'{name} {of}' for name, of in packages[0].items())}.\n\n"


def shown_command(row: Row) -> str:
    """The command line of a row, as a reader in a clone would type it."""
    limit = () if "--updates" in row.words else ("--updates", "…")
    words = " ".join((OURS, *row.words, *limit, "--seed", "…"))
    return words.replace(f"{ROOT}/", "")


def _ends(chosen: Iterable[Row], every: Iterable[Result]) -> Iterator[tuple[str, ...]]:
    for row in chosen:
        found = {result.who: result for result in every if result.row == row.name}
        peers = [f"{who} {found.get(who, NOT_TRAINED)}" for who in row.peers]
        own = str(found.get(OURS, NOT_TRAINED))
        yield (f"`{row.name}`", f"{row.steps:,}", own, ", ".join(peers), _gap(found, row.peers))


def _gap(found: Mapping[str, Result], peers: Sequence[str]) -> str:
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
        for who, runs in by_trainer(row, logs):
            ends = [run.end for run in runs]
            numbers = f"{statistics.median(ends):8.2f} {min(ends):8.2f} {max(ends):8.2f}"
            lines.append(
                f"{row.name:<17} {row.steps:>8} {numbers}  {who}: {' '.join(f'{end:.2f}' for end in ends)}"
            )
    return "\n".join(lines)
