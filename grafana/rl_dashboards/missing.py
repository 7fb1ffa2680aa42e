"""What is missing where a number would be: a zero that nobody counted must not look like an all-clear."""

from __future__ import annotations

from enum import IntEnum

from rl_dashboards.queries import CHOICE_SHARE, HEAD, RATIO, RUN, run_selector, run_state

WATCHDOG = 'ALERTS{alertname="RLMonitoringWatchdog", alertstate="firing"}'


class Missing(IntEnum):
    """Why nothing is known. Negative, so that no count and no ratio can equal it."""

    RULES = -1
    UPDATE = -2
    RUNNING = -3
    RUN = -4

    @property
    def words(self) -> str:
        """As people read it."""
        return _WORDS[self]


_WORDS = {
    Missing.RULES: "no rules loaded",
    Missing.UPDATE: "before first update",
    Missing.RUNNING: "no run goes on",
    Missing.RUN: "no run",
}

NO_ANSWER = "no answer from Prometheus"
"""The text of a panel whose query failed or found nothing at all."""


def missing(*, of_now: bool = True) -> str:
    """Why nothing is known of the selected runs (:class:`Missing`); empty where there is nothing in the way.

    ``of_now``: a run that is over is none of those that are asked about, so that no run goes on. Otherwise runs
    within the time range count, too, which costs more.
    """
    goes_on = f"count({run_state('running')} == 1)"
    updated = f"count({run_selector('rl_training_last_update_timestamp_seconds')})"
    recorded = f"count(run:rl_training_run_state:running{{{RUN}}})"
    if of_now:
        reasons = ((Missing.RUNNING, goes_on), (Missing.RULES, recorded), (Missing.UPDATE, updated))
        return f"({' or '.join(f'{reason} + 0 * absent({series})' for reason, series in reasons)})"
    # At the end of the range: a graph that begins before the run would say "no run" beside it for ever.
    known = f"count(last_over_time({run_selector('rl_training_run_info')}[$__range] @ end()))"
    return (
        f"({Missing.RULES} + 0 * ({goes_on} unless {recorded})"
        f" or {Missing.UPDATE} + 0 * ({goes_on} unless {updated}) or {Missing.RUN} + 0 * absent({known}))"
    )


def counted(expression: str, base: str) -> str:
    """How many series ``expression`` has, or why that is not known, or 0 where ``base`` has some."""
    return f"count({expression}) or {missing()} or 0 * count({base})"


def missing_of_heads() -> str:
    """Why a head has no ratio although its run is there: no update yet, or no rules."""
    recorded = f"run:rl_training_run_state:running{{{RUN}}}"
    measured = f"max by (head) (rl_policy_head_state{{{HEAD}}})"
    declared = f"max by (head) (rl_policy_head_entropy_max_nats{{{HEAD}}})"
    return (
        f"({Missing.RULES} + 0 * ({measured} unless on () {recorded})"
        f" or {Missing.UPDATE} + 0 * ({declared} unless {measured}))"
    )


NO_CHOICE_RATIO = -9
"""Stands for the ratio of a head without a choice step, which is undefined."""


def ratio_or_why_not() -> str:
    """The effective ratio by head, or a negative number that says why there is none."""
    no_choice = f"{NO_CHOICE_RATIO} + 0 * max by (head) ({CHOICE_SHARE} == 0)"
    no_run = f"{missing(of_now=False)} < {Missing.RUNNING}"
    return f"min by (head) ({RATIO}) or {no_choice} or {missing_of_heads()} or {no_run}"
