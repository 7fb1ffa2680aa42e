"""PromQL of the verdict on a head: low entropy is a failure only of a head that is blind to the state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from rl_dashboards.queries import (
    CHOICE_SHARE,
    HEAD,
    HEAD_KEY,
    LEVEL,
    LEVEL_CODES,
    NO_CHOICE_CODE,
    RATIO,
    Read,
    head_state_codes,
    last,
    latest,
    latest_ratio,
)
from rl_exporter.health import Condition, Level


class Verdict(IntEnum):
    """The verdict on a head. The larger is the worse; only the last two are failures."""

    HEALTHY = 0
    SETTLED = 1
    LOW = 2
    COLLAPSED = 3


VERDICT_CODES = {verdict: int(verdict) for verdict in Verdict}


NO_VERDICT_CODE = 4
"""Shown beside the verdicts: the head had no choice step."""


def verdicts_now(by: str = "head", codes: Mapping[Verdict, int] = VERDICT_CODES) -> str:
    """The worst verdict on the heads that are scraped now, as a number.

    The exporter decides it: low entropy is a failure once a head has been blind to the state for three updates.
    """
    terms = [f"{codes[verdict]} + 0 * {_since(condition, str)}" for verdict, condition in _CONDITIONS.items()]
    terms.append(f"{codes[Verdict.HEALTHY]} + 0 * max by ({HEAD_KEY}) ({LEVEL})")
    return f"max by ({by}) ({' or '.join(terms)})"


def head_verdicts(by: str = "head", codes: Mapping[Verdict, int] = VERDICT_CODES) -> str:
    """The same, and for ended runs the last verdict within the time range."""
    return f"({verdicts_now(by, codes)} or {_last_verdicts(by, codes)})"


_CONDITIONS = {
    Verdict.COLLAPSED: Condition.COLLAPSED,
    Verdict.LOW: Condition.LOW,
    Verdict.SETTLED: Condition.SETTLED,
}
"""In this order: a collapsed head is low, too."""


def _since(condition: Condition, read: Read) -> str:
    selector = f'rl_policy_head_condition_since_timestamp_seconds{{{HEAD}, condition="{condition}"}}'
    return f"max by ({HEAD_KEY}) ({read(selector)})"


def _last_verdicts(by: str, codes: Mapping[Verdict, int]) -> str:
    """The last verdicts within the time range.

    A condition may have ended before the run did, which its last sample does not tell. So the last level must
    still allow it, and of blind and settled the later one holds.
    """
    collapsed, low, settled = (_since(condition, last) for condition in _CONDITIONS.values())
    level = f"max by ({HEAD_KEY}) ({last(LEVEL)})"
    warning, critical = LEVEL_CODES[Level.WARNING], LEVEL_CODES[Level.CRITICAL]
    holding = {
        Verdict.COLLAPSED: f"({collapsed} and {level} == {critical} unless {settled} > {collapsed})",
        Verdict.LOW: f"({low} and {level} >= {warning} unless {settled} > {low})",
        Verdict.SETTLED: f"({settled} and {level} == {critical})",
        Verdict.HEALTHY: level,
    }
    return (
        f"max by ({by}) ({' or '.join(f'{codes[verdict]} + 0 * {held}' for verdict, held in holding.items())})"
    )


def verdict_or_no_choice(by: str) -> str:
    """The verdict, or :data:`NO_VERDICT_CODE` for a head without a choice step in its last update."""
    share = latest(lambda read: f"max by ({by}) ({read(CHOICE_SHARE)})")
    return f"{NO_VERDICT_CODE} + 0 * (({share}) == 0) or {head_verdicts(by)}"


def ratio_that_counts() -> str:
    """The latest ratios by head, without those of heads that settled, unless every head did."""
    ratios = latest_ratio(RATIO)
    return f"(({ratios}) unless on (head) {head_verdicts()} == {int(Verdict.SETTLED)} or on () ({ratios}))"


def verdicts_and_states() -> str:
    """Verdict and state of each head in one number, ten times (1 + verdict) plus state: a tile shows one value."""
    state = latest(head_state_codes)
    return f"(({state}) < {NO_CHOICE_CODE}) + on (head) 10 * (1 + {head_verdicts()}) or ({state})"
