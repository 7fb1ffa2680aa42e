"""How far apart a measure holds heads that collapsed and heads that learned.

A rule that says "blind below a threshold" fires for a head once enough low updates in a row lie below it:
three, or those of a minute. So what counts of a head is the lowest threshold at which it fires: over all
windows of that many low updates, the smallest of their largest values. A collapse needs a threshold above its
own, a learned head one at or below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.cohort_runs.judgement import Result
from benchmarks.cohort_runs.recipe import Label
from benchmarks.cohort_runs.replay import PERIODS, SUSTAINED_SECONDS, with_tail
from rl_exporter.health import DEFAULT_THRESHOLDS, SUSTAINED_UPDATES
from rl_exporter.payload import HeadMeasurement

Measure = Callable[[HeadMeasurement], float]


def absolute(measured: HeadMeasurement) -> float:
    """State information I, in nats; 0 where it is not known, since an unknown value counts as blind."""
    return measured.state_information or 0.0


def relative(measured: HeadMeasurement) -> float:
    """Share D of what is uncertain about the action that the state explains; 0 where it is not known."""
    return measured.state_information_ratio or 0.0


MEASURES: Mapping[str, Measure] = {
    "I, nats": absolute,
    "D": relative,
    "either: the smaller of 5 I and D": lambda measured: min(5 * absolute(measured), relative(measured)),
    "both: the larger of I and D": lambda measured: max(absolute(measured), relative(measured)),
}


CANDIDATES = (
    ("I, nats", 0.25),
    ("I, nats", 0.05),
    ("D", 0.25),
    ("D", 0.1),
    ("either: the smaller of 5 I and D", 0.1),
)
"""Measures and thresholds between which the verdict could choose."""


@dataclass(frozen=True, slots=True, order=True)
class Needed:
    """The lowest threshold at which a head of a run fires."""

    threshold: float
    kind: str
    seed: int
    head: str


def needed(result: Result, head: str, measure: Measure, level: float, period: float) -> Needed | None:
    """For one head at one update every ``period`` seconds; None where it was never low for long enough."""
    window = max(SUSTAINED_UPDATES, int(SUSTAINED_SECONDS / period) + 1)
    low: list[float] = []
    best: float | None = None
    for update in with_tail(result.log.updates, period):
        measured = update.heads[head]
        if measured.choice_entropy is None:
            continue
        if measured.choice_entropy > level:
            low.clear()
            continue
        low.append(measure(measured))
        if len(low) >= window:
            largest = max(low[-window:])
            best = largest if best is None else min(best, largest)
    return None if best is None else Needed(best, result.recipe.name, result.seed, head)


def of_collapses(results: Iterable[Result], measure: Measure, period: float) -> Iterator[Needed]:
    """What each run that has to page needs, of the head that needs least."""
    for result in results:
        if result.recipe.label.has_to_page:
            heads = result.recipe.heads or result.log.heads.names
            found = [needed(result, head, measure, DEFAULT_THRESHOLDS.critical, period) for head in heads]
            yield from sorted(one for one in found if one is not None)[:1]


def of_learned(
    results: Iterable[Result], measure: Measure, level: float, period: float = PERIODS[-1]
) -> Iterator[Needed]:
    """What each head of a run that learned would fire at; the fewest updates are the strictest test."""
    for result in results:
        if result.recipe.label in {Label.LEARNED, Label.HARMLESS}:
            found = (needed(result, head, measure, level, period) for head in result.log.heads.names)
            yield from (one for one in found if one is not None)
