"""The tables of docs/intervention.md: every kind of run under everything that was tried, and the goals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median

from benchmarks.intervention_runs.judgement import CRITICAL, Result
from benchmarks.intervention_runs.kinds import Kind, Means, kinds, means
from benchmarks.marked_page import replaced

BEGIN, END = "<!-- intervention: begin -->\n", "<!-- intervention: end -->\n"

RECOVERY_UPDATES, STEADY = 15, 0.1
"""Goals: back above the critical threshold within so many updates, and then a swing of no more than this."""

Results = Mapping[tuple[str, str], Sequence[Result]]
"""By names of kind and means, in the order of the seeds."""

_COLUMNS = ("return at the end", "price", "updates collapsed", "came back", "swing", "interventions")


def written(page: str, results: Results) -> str:
    """Replace what stands between the markers of ``page``. Raises ValueError where it has none."""
    return replaced(page, BEGIN, END, "\n".join(["", *lines(results), ""]))


def lines(results: Results) -> Iterator[str]:
    """Every table as Markdown."""
    yield from _runs(results)
    for kind in kinds():
        rows = [one for one in means() if not one.trial and results.get((kind.name, one.name))]
        if rows:
            yield ""
            yield f"**{kind.name}**: {kind.why}."
            yield ""
            yield from _table(kind, rows, results)
    yield ""
    yield from _goals(results)
    yield from _trials(results)


def _runs(results: Results) -> Iterator[str]:
    every = [result for of_one in results.values() for result in of_one]
    seeds = {result.seed for result in every}
    minutes = sum(result.cpu_seconds for result in every) / 60
    yield f"{len(every)} runs, {len(seeds)} seeds of each, {minutes:.0f} minutes of one processor."


def _table(kind: Kind, rows: Iterable[Means], results: Results) -> Iterator[str]:
    yield f"| | {' | '.join(_COLUMNS)} |"
    yield "| --- |" + " --- |" * len(_COLUMNS)
    without = results.get((kind.name, "none"), ())
    for row in rows:
        yield f"| {row.name} | {' | '.join(_cells(results[kind.name, row.name], without))} |"


def _cells(found: Sequence[Result], without: Sequence[Result]) -> Iterator[str]:
    ends = [result.end for result in found]
    yield f"{median(ends):.2f} ({min(ends):.2f} to {max(ends):.2f})"
    differences = [difference for _, difference in against(found, without)]
    yield f"{median(differences):+.2f}" if differences and found is not without else "-"
    yield f"{median(result.collapsed_updates for result in found):g}"
    yield came_back(found)
    swings = [result.swing for result in found if result.swing is not None]
    yield f"{max(swings):.2f}" if swings else "-"
    yield f"{median(result.interventions for result in found):g}"


def against(found: Sequence[Result], without: Sequence[Result]) -> list[tuple[int, float]]:
    """Seed and difference of the return at the end, for the seeds that both have."""
    ends = {result.seed: result.end for result in without}
    return [(result.seed, result.end - ends[result.seed]) for result in found if result.seed in ends]


def came_back(found: Sequence[Result]) -> str:
    """How many of the collapsed heads came back in time, and after how many updates: median and most."""
    recoveries = [updates for result in found for updates in result.recoveries]
    if not recoveries:
        return "none collapsed"
    known = [updates for updates in recoveries if updates is not None]
    in_time = sum(updates <= RECOVERY_UPDATES for updates in known)
    after = f", after {median(known):g} ({max(known)} at most)" if known else ""
    return f"{in_time} of {len(recoveries)}{after}"


def _goals(results: Results) -> Iterator[str]:
    yield "| goal of the controller | runs | met |"
    yield "| --- | --- | --- |"
    for kind in kinds():
        found, without = (results.get((kind.name, name), ()) for name in ("controller", "none"))
        if found and without:
            yield from (f"| {goal} | {kind.name} | {met} |" for goal, met in goals(kind, found, without))


def goals(kind: Kind, found: Sequence[Result], without: Sequence[Result]) -> Iterator[tuple[str, str]]:
    """Every goal of a kind, and in how many of its runs it is met."""
    runs, differences = len(found), [difference for _, difference in against(found, without)]
    if "recovery" in kind.expects:
        back = sum(all(_in_time(updates) for updates in result.recoveries) for result in found)
        yield f"every head back above {CRITICAL:g} within {RECOVERY_UPDATES} updates", f"{back} of {runs}"
    if "steady" in kind.expects:
        steady = sum((result.swing or 0.0) <= STEADY for result in found)
        yield f"a swing of {STEADY:g} at most", f"{steady} of {runs}"
    if "gain" in kind.expects:
        yield "a higher return at the end than without", f"{sum(one > 0.0 for one in differences)} of {runs}"
    if "nothing" in kind.expects:
        yield "no intervention", f"{sum(not result.interventions for result in found)} of {runs}"
        yield "the same return at the end as without", f"{sum(one == 0.0 for one in differences)} of {runs}"


def _in_time(updates: int | None) -> bool:
    return updates is not None and updates <= RECOVERY_UPDATES


def _trials(results: Results) -> Iterator[str]:
    tried = [one for one in means() if one.trial or one.gains is not None]
    tried = [one for one in tried if any(results.get((kind.name, one.name)) for kind in kinds())]
    if len(tried) > 2:
        yield ""
        yield "Choices of the law and its gains; each trial changes one thing in *half gains*. A cell holds"
        yield "the median return at the end, updates collapsed, the largest swing, and interventions:"
        yield ""
        yield f"| | {' | '.join(kind.name for kind in kinds())} |"
        yield "| --- |" + " --- |" * len(kinds())
        for one in tried:
            cells = (_short(results.get((kind.name, one.name), ())) for kind in kinds())
            yield f"| {one.name}: {one.why} | {' | '.join(cells)} |"


def _short(found: Sequence[Result]) -> str:
    if not found:
        return "-"
    swings = [result.swing for result in found if result.swing is not None]
    swing = f"{max(swings):.2f}" if swings else "-"
    collapsed = median(result.collapsed_updates for result in found)
    changes = median(result.interventions for result in found)
    return f"{median(result.end for result in found):.2f}, {collapsed:g}, {swing}, {changes:g}"
