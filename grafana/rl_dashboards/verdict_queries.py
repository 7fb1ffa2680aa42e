"""PromQL of the verdict on a head: low entropy is a failure only of a head that is blind to the state.

What a query costs is the number of series that it selects. Conditions are exported for the few heads that they hold
for; the level and the choice share have a series for every head of every run, so each is selected once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from rl_dashboards.queries import (
    CHOICE_SHARE,
    HEAD,
    HEAD_KEY,
    LEVEL,
    RATIO,
    RUN,
    RUN_KEY,
    head_state_codes,
    last,
    latest,
    latest_ratio,
    run_selector,
    running,
)
from rl_exporter.health import Condition


class Verdict(IntEnum):
    """The verdict on a head. The larger is the worse; those from STARVED on are failures, those from COLLAPSED on page."""

    HEALTHY = 0
    SETTLED = 1
    NO_CHOICE = 2
    STARVED = 3
    LOW = 4
    COLLAPSED = 5
    DEAD = 6
    EXPLODING = 7

    @property
    def word(self) -> str:
        """As people read it."""
        return self.name.lower().replace("_", " ")


Codes = Mapping[Verdict, float]
VERDICT_CODES: Codes = {verdict: int(verdict) for verdict in Verdict}

SILENT_AFTER = 600
"""Seconds without a choice after which nothing is said any more about how a head decides; that of the rules."""

LAST_SEEN = 120
"""Seconds before the last update of a run within which a condition was scraped that held at its end: the longest
supported scrape interval."""

_CONDITIONS = {
    Verdict.EXPLODING: Condition.EXPLODING,
    Verdict.DEAD: Condition.DEAD,
    Verdict.COLLAPSED: Condition.COLLAPSED,
    Verdict.LOW: Condition.LOW,
    Verdict.STARVED: Condition.STARVED,
    Verdict.SETTLED: Condition.SETTLED,
}
"""What the exporter says of each verdict. In this order: a dead head is collapsed, and a collapsed one low, too."""


def _since(condition: Condition) -> str:
    return f'rl_policy_head_condition_since_timestamp_seconds{{{HEAD}, condition="{condition}"}}'


def _now(verdict: Verdict) -> str:
    """The heads that have a verdict of a condition now."""
    held = f"max by ({HEAD_KEY}) ({_since(_CONDITIONS[verdict])})"
    if verdict not in {Verdict.COLLAPSED, Verdict.LOW}:
        return held
    return f"({held} unless time() - max by ({HEAD_KEY}) ({_since(Condition.IDLE)}) > {SILENT_AFTER})"


def _at_the_end(verdict: Verdict) -> str:
    """The heads that had a verdict of a condition when their run was last updated."""
    seen = f"max by ({HEAD_KEY}) (max_over_time(timestamp({_since(_CONDITIONS[verdict])})[$__range:15s]))"
    updated = f"max by ({RUN_KEY}) ({last(run_selector('rl_training_last_update_timestamp_seconds'))})"
    return f"({seen} >= on ({RUN_KEY}) group_left () {updated} - {LAST_SEEN})"


def _heads_now() -> dict[Verdict, str]:
    """For each verdict the heads that have it now. A head may stand in several; the first counts."""
    held = {verdict: _now(verdict) for verdict in _CONDITIONS}
    settled = held.pop(Verdict.SETTLED)
    no_choice = f"max by ({HEAD_KEY}) ({CHOICE_SHARE} == 0)"
    level = f"max by ({HEAD_KEY}) ({LEVEL})"
    return {**held, Verdict.NO_CHOICE: no_choice, Verdict.SETTLED: settled, Verdict.HEALTHY: level}


def _heads_at_the_end() -> dict[Verdict, str]:
    """The same of runs that are over, from what was last scraped of them within the time range.

    A head without a choice in the last update has the level of the last one that had some.
    """
    held = {verdict: _at_the_end(verdict) for verdict in _CONDITIONS}
    return {**held, Verdict.HEALTHY: f"max by ({HEAD_KEY}) ({last(LEVEL)})"}


def _union(held: Mapping[Verdict, str], codes: Codes, more: float = 0) -> str:
    return " or ".join(
        f"{codes[verdict] + more:g} + 0 * {heads}" for verdict, heads in held.items() if verdict in codes
    )


def verdicts_now(by: str = "head") -> str:
    """The worst verdict on the heads that are scraped now, as a number.

    The exporter decides it: low entropy is a failure once a head has been blind to the state for three updates.
    Without the recording rules only failures have a verdict.
    """
    return f"max by ({by}) ({_union(_heads_now(), VERDICT_CODES)})"


def verdicts(by: str = "head", ended: float = 0) -> str:
    """The same, and for runs that are over the last one within the time range, with ``ended`` added."""
    now, over = _union(_heads_now(), VERDICT_CODES), _union(_heads_at_the_end(), VERDICT_CODES, ended)
    return (
        f"max by ({by}) (({now}) and on ({RUN_KEY}) {running()} or ({over}) unless on ({RUN_KEY}) {running()})"
    )


def verdict_words(words: Mapping[Verdict, str], at_the_end: Mapping[Verdict, str]) -> str:
    """The verdict on each head as a label ``verdict``, ``at_the_end`` for runs that are over."""
    now, over = _labelled(_heads_now(), words), _labelled(_heads_at_the_end(), at_the_end)
    return f"(({now}) and on ({RUN_KEY}) {running()} or ({over}) unless on ({RUN_KEY}) {running()})"


def _labelled(held: Mapping[Verdict, str], words: Mapping[Verdict, str]) -> str:
    # Without aggregating the level: two replicas may each have recorded one, which say the same.
    heads = {**held, Verdict.HEALTHY: held[Verdict.HEALTHY].removeprefix(f"max by ({HEAD_KEY}) ")}
    return f" or on ({HEAD_KEY}) ".join(
        f'label_replace({which}, "verdict", "{words[verdict]}", "", "")' for verdict, which in heads.items()
    )


def noticed_runs(codes: Codes = VERDICT_CODES, worst: str = "max") -> str:
    """The verdict on the worst head of each running run for which a head has one of a condition."""
    held = {verdict: _now(verdict) for verdict in _CONDITIONS}
    return f"({worst} by ({RUN_KEY}) ({_union(held, codes)}) and on ({RUN_KEY}) {running()})"


def judged_runs() -> str:
    """Runs that were updated and whose levels the rules record: without a condition they are healthy."""
    updated = f"max by ({RUN_KEY}) ({run_selector('rl_training_last_update_timestamp_seconds')})"
    return f"({updated} and on ({RUN_KEY}) run:rl_training_run_state:running{{{RUN}}})"


def verdicts_of_runs(codes: Codes = VERDICT_CODES, worst: str = "max") -> str:
    """The verdict on the worst head of each running run, as a number of ``codes``. It looks at no healthy head."""
    return f"({noticed_runs(codes, worst)} or {codes[Verdict.HEALTHY]:g} + 0 * {judged_runs()})"


def ratio_that_counts() -> str:
    """The latest ratios by head, without those of heads that settled, unless every head did."""
    ratios = latest_ratio(RATIO)
    settled = f"{verdicts()} == {int(Verdict.SETTLED)}"
    return f"(({ratios}) unless on (head) {settled} or on () ({ratios}))"


def verdicts_and_states(ended: float = 0) -> str:
    """Verdict and state of each head in one number, ten times (1 + verdict) plus state: a tile shows one value.

    ``ended`` is added for a run that is over.
    """
    states = latest(head_state_codes)
    return (
        f"(({states}) + on (head) 10 * (1 + {verdicts()}) or ({states})) + on () group_left () {_over(ended)}"
    )


def _over(ended: float) -> str:
    return f"(0 * count({running()}) or vector({ended:g}))"


def verdicts_and_states_now() -> str:
    """The same of the heads that are scraped now, for graphs over time.

    Without the state where the verdict has the word: a change of state would begin a new bar of the same word.
    """
    verdict, state = verdicts_now(), head_state_codes()
    return f"(10 * (1 + ({verdict} > 0)) or {state} + on (head) (10 + 0 * ({verdict} == 0)) or {state})"
