"""Replays the log of a run through four rules, at any update period.

The verdict under test is the exporter's own: its aggregator is fed from the log, with a clock that advances by
the period. The other rules wait as long, three updates and a minute: they differ only in what they look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from itertools import cycle, islice
from math import ceil

from benchmarks.cohort_runs.log import RunLog, Update
from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.health import DEFAULT_THRESHOLDS, SUSTAINED_UPDATES, Condition
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import RunInfo, TamiyoState
from rl_exporter.streaks import Streak

PERIODS = (1.0, 30.0, 600.0)
"""Seconds between two updates."""

SUSTAINED_SECONDS = 60.0
"""The alert rules wait for a minute beside the three updates that the exporter counts."""

TAIL_SECONDS, TAIL_UPDATES = 180.0, 10
"""A run goes on after its log for three minutes, and repeats its last ten updates: at one update a second, most
runs would otherwise end before a minute of anything could have passed."""

PAID_ABOVE = 2.0
"""Welch's t of the advantage margin above which a head is paid for its leading action."""

ALL_HEADS = ""
"""Stands for the head in what a rule says of the whole policy."""


class Rule(StrEnum):
    """What pages, or warns."""

    NORMALIZED = "normalized ratio"
    AGGREGATE = "aggregate"
    CHOICE = "choice ratio alone"
    VERDICT = "verdict"
    UNPAID = "verdict, unless paid"
    WARNING = "verdict, warning"


Fired = Mapping[tuple[Rule, str], int]
"""The update at which a rule first fired for a head."""


def replay(log: RunLog, period: float) -> Fired:
    """The first update at which each rule fires for each head, at one update every ``period`` seconds."""
    clock = [0.0]
    aggregator = SanctumAggregator(log.heads, RunInfo("cohort"), clock=lambda: clock[0])
    levels = {(rule, name): Streak(0, 0.0) for rule in _RATIOS for name in _RATIOS[rule](log)}
    fired: dict[tuple[Rule, str], int] = {}
    for number, update in enumerate(with_tail(log.updates, period), 1):
        clock[0] = number * period
        aggregator.handle_ppo_update(PPOUpdatePayload(heads=update.heads))
        state = aggregator.snapshot().tamiyo
        for key, since in _held(state, levels, clock[0]):
            # Between this update and the next the condition stands, and its minute may end.
            if since + SUSTAINED_SECONDS < clock[0] + period:
                fired.setdefault(key, number)
    return fired


def with_tail(updates: tuple[Update, ...], period: float) -> Iterator[Update]:
    """The updates of a run, and those that it is taken to go on with."""
    yield from updates
    yield from islice(cycle(updates[-TAIL_UPDATES:]), ceil(TAIL_SECONDS / period))


def _held(
    state: TamiyoState, levels: Mapping[tuple[Rule, str], Streak], now: float
) -> Iterator[tuple[tuple[Rule, str], float]]:
    """What has held for three updates, and since when."""
    for name, reading in state.readings.items():
        for condition, since in reading.conditions:
            if condition in _CONDITIONS:
                yield (_CONDITIONS[condition], name), since
            if condition is Condition.COLLAPSED and not (reading.advantage_margin_t or 0.0) > PAID_ABOVE:
                yield (Rule.UNPAID, name), since
    for (rule, name), streak in levels.items():
        ratio = _normalized(state, name) if rule is Rule.NORMALIZED else _aggregate(state)
        if ratio is not None:
            streak.count(ratio <= DEFAULT_THRESHOLDS.critical, now)
        if streak.length >= SUSTAINED_UPDATES:
            yield (rule, name), streak.since


_CONDITIONS: Mapping[Condition, Rule] = {
    Condition.CRITICAL: Rule.CHOICE,
    Condition.COLLAPSED: Rule.VERDICT,
    Condition.LOW: Rule.WARNING,
}


def _normalized(state: TamiyoState, name: str) -> float | None:
    return state.readings[name].normalized if not state.unmeasured_updates(name) else None


def _aggregate(state: TamiyoState) -> float | None:
    """Total entropy as a share of its maximum; None unless every head was measured."""
    most = sum(head.max_entropy for head in state.heads)
    return None if state.entropy is None else state.entropy / most


_RATIOS: Mapping[Rule, Callable[[RunLog], tuple[str, ...]]] = {
    Rule.NORMALIZED: lambda log: log.heads.names,
    Rule.AGGREGATE: lambda _log: (ALL_HEADS,),
}
"""Rules that the exporter has no condition for, and the heads that they speak of."""
