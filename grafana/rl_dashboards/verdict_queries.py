"""PromQL of the verdict on a head: low entropy is a failure only of a head that is blind to the state.

Recording rules decide it, one number for each head and one for each run, so that a query selects little.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from rl_dashboards.queries import (
    HEAD,
    HEAD_KEY,
    RATIO,
    RUN,
    RUN_KEY,
    at_the_end,
    head_state_codes,
    latest,
    latest_ratio,
    running,
)


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


_WITHOUT_CONDITION = {Verdict.HEALTHY, Verdict.NO_CHOICE}

ENDED = 100
"""Added to the number of a verdict on a run that is over, where it is told from one of now: 107 is exploding, when it ended."""

VERDICT = f"head:rl_policy_verdict:code{{{HEAD}}}"
WORST = f"run:rl_policy_verdict:worst{{{RUN}}}"


def _at_the_end() -> str:
    """The last verdict within the time range on each head of a run that is over."""
    return f"({at_the_end(VERDICT)} unless on ({RUN_KEY}) {running()})"


def _now_or_at_the_end(ended: float = 0) -> str:
    over = f"({ended:g} + {_at_the_end()})" if ended else _at_the_end()
    return f"{VERDICT} and on ({RUN_KEY}) {running()} or {over}"


def verdicts_now(by: str = "head") -> str:
    """The worst verdict on the heads that are scraped now, as a number.

    The exporter decides on it: low entropy is a failure once a head has been blind to the state for three updates.
    """
    return f"max by ({by}) ({VERDICT})"


def verdicts(by: str = "head") -> str:
    """The same, and for runs that are over the last one within the time range."""
    return f"max by ({by}) ({_now_or_at_the_end()})"


def verdict_seconds() -> str:
    """How long the condition behind the verdict on each head has held, the one that began first."""
    conditions = "|".join(verdict.name.lower() for verdict in Verdict if verdict not in _WITHOUT_CONDITION)
    since = f'rl_policy_head_condition_since_timestamp_seconds{{{HEAD}, condition=~"{conditions}"}}'
    return f"time() - min by (head) ({since})"


def verdict_words(words: Mapping[Verdict, str], at_the_end: str) -> str:
    """The verdict on each head as a label ``verdict``, with ``at_the_end`` behind it for runs that are over."""
    codes = f'count_values by ({HEAD_KEY}) ("verdict", {_now_or_at_the_end(ENDED)})'
    labelled = f'label_replace({codes}, "verdict", "$1{at_the_end}", "verdict", "10(.)")'
    for verdict, word in words.items():
        labelled = f'label_replace({labelled}, "verdict", "{word}$1", "verdict", "{int(verdict)}(.*)")'
    return labelled


def verdicts_of_runs() -> str:
    """The verdict on the worst head of each running run, as a number. Heads without a choice do not count."""
    return f"max by ({RUN_KEY}) ({WORST})"


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
