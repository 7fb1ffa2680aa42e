"""Writes what the cohort showed as Markdown: the rules side by side, every kind of run, and the margins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.cohort_runs.judgement import Result, by_kind, score
from benchmarks.cohort_runs.margin import CANDIDATES, MEASURES, Needed, of_collapses, of_learned
from benchmarks.cohort_runs.replay import PERIODS, Rule
from benchmarks.marked_page import replaced
from rl_exporter.health import DEFAULT_THRESHOLDS
from rl_training.setting_kinds import Critic

MARKS = {
    "shared": ("<!-- cohort: begin -->\n", "<!-- cohort: end -->\n"),
    "own": ("<!-- cohort, own critic: begin -->\n", "<!-- cohort, own critic: end -->\n"),
}
"""Between which lines of the page the tables stand, by the critic of the runs."""

RULES = (Rule.NORMALIZED, Rule.AGGREGATE, Rule.CHOICE, Rule.VERDICT)
_MIDDLE = PERIODS[1]


def written(page: str, results: Sequence[Result], critic: Critic = "shared") -> str:
    """Replace what stands between the markers of ``page``. Raises ValueError where it has none."""
    return replaced(page, *MARKS[critic], tables(results) if critic == "shared" else short_tables(results))


def short_tables(results: Sequence[Result]) -> str:
    """How the rules did, over all runs and for every kind."""
    kinds = len(by_kind(results))
    parts = (
        f"{len(results)} runs of {kinds} kinds.\n",
        _table(("rule", *_rule_columns()), _rules(results)),
        "Every kind, at one update in 30 s. A cell counts the runs that the rule paged for:\n",
        _table(("kind", "label", "runs", *RULES, "warned", "the recipe"), _kinds(results)),
    )
    return "\n".join(parts)


def tables(results: Sequence[Result]) -> str:
    """All tables."""
    parts = (
        short_tables(results),
        "How far each measure holds the two apart:\n",
        _table(_MARGIN_COLUMNS, _margins(results)),
        "What could count as blind, and what would follow:\n",
        _table(("blind below", *_candidate_columns()), _candidates(results)),
    )
    return "\n".join(parts)


def _rule_columns() -> Iterator[str]:
    for period in PERIODS:
        for what in ("recall", "false pages"):
            yield f"{what}, {_duration(period)}"
    yield f"median updates to the page, {_duration(_MIDDLE)}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _rules(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for rule in (*RULES, Rule.UNPAID, Rule.WARNING):
        scores = [score(results, rule, period) for period in PERIODS]
        cells: list[str] = []
        for one in scores:
            cells += [
                f"{one.recalled} of {one.collapses}",
                f"{one.false_pages} in {one.falsely_paged_runs} runs",
            ]
        middle = scores[1].median_updates
        yield (rule, *cells, "-" if middle is None else f"{middle:g}")


def _kinds(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    for name, runs in by_kind(results).items():
        recipe = runs[0].recipe
        paged = [str(sum(bool(run.pages(rule, _MIDDLE)) for run in runs)) for rule in (*RULES, Rule.WARNING)]
        yield (f"`{name}`", recipe.label, str(len(runs)), *paged, recipe.why)


_MARGIN_COLUMNS = (
    "measure",
    "highest that a collapse needs, 10 min",
    "and 1 s",
    "lowest that a learned head allows, critical",
    "and warning",
    "factor between",
)


def _margins(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    critical, warning = DEFAULT_THRESHOLDS.critical, DEFAULT_THRESHOLDS.warning
    for name, measure in MEASURES.items():
        slow = max(of_collapses(results, measure, PERIODS[-1]), default=None)
        fast = max(of_collapses(results, measure, PERIODS[0]), default=None)
        lowest = min(of_learned(results, measure, critical), default=None)
        warned = min(of_learned(results, measure, warning), default=None)
        yield (name, _place(slow), _place(fast), _place(lowest), _place(warned), _factor(slow, lowest))


def _candidate_columns() -> Iterator[str]:
    for period in PERIODS:
        yield f"recall, {_duration(period)}"
        yield f"false pages, false warnings, {_duration(period)}"


def _candidates(results: Sequence[Result]) -> Iterator[tuple[str, ...]]:
    critical, warning = DEFAULT_THRESHOLDS.critical, DEFAULT_THRESHOLDS.warning
    collapses = sum(result.recipe.label.has_to_page for result in results)
    for name, threshold in CANDIDATES:
        measure = MEASURES[name]
        cells: list[str] = []
        for period in PERIODS:
            recalled = _below(of_collapses(results, measure, period), threshold)
            pages = _below(of_learned(results, measure, critical, period), threshold)
            warnings = _below(of_learned(results, measure, warning, period), threshold)
            cells += [f"{recalled} of {collapses}", f"{pages}, {warnings}"]
        yield (f"{name}: {threshold:g}", *cells)


def _below(found: Iterable[Needed], threshold: float) -> int:
    return sum(one.threshold < threshold for one in found)


def _place(found: Needed | None) -> str:
    return "-" if found is None else f"{found.threshold:.4f} (`{found.kind}`, {found.head})"


def _factor(highest: Needed | None, lowest: Needed | None) -> str:
    if highest is None or lowest is None:
        return "-"
    if lowest.threshold <= highest.threshold:
        return "they overlap"
    return f"{lowest.threshold / highest.threshold:.3g}" if highest.threshold else "any"


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
