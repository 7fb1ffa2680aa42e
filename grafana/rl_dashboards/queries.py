"""PromQL of the dashboards: what is selected, and how a value outlives its run within the time range."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from rl_exporter.health import HeadState

RUN = 'cluster=~"$cluster", run_id=~"$run_id"'
HEAD = RUN + ', head=~"$head"'
RUN_KEY = "cluster, namespace, run_id"
"""A run's identity."""

RATIO = f"head:rl_policy_effective_entropy:ratio{{{HEAD}}}"
LEVEL = f"head:rl_policy_effective_entropy:level{{{HEAD}}}"
CHOICE_SHARE = f"rl_policy_head_choice_steps_ratio{{{HEAD}}}"

NO_LEVEL_CODE = 3
"""Beside the levels 0, 1 and 2: the head had nothing to decide."""

Read = Callable[[str], str]
"""How a selector is read: as it is now, or as it was last within the time range."""


class Status(IntEnum):
    """What a run is doing, as far as Prometheus can know."""

    RUNNING = 0
    COMPLETED = 1
    INTERRUPTED = 2
    FAILED = 3
    LOST = 4
    STALLED = 5


HEAD_STATE_CODES = {
    HeadState.HEALTHY: 0,
    HeadState.UNSETTLED: 1,
    HeadState.CONFUSED: 2,
    HeadState.DETERMINISTIC: 3,
    HeadState.DEAD: 4,
    HeadState.EXPLODING: 5,
}
"""Numbers for states, since panels colour numbers; the larger is the worse."""

NO_CHOICE_CODE = 6
"""Deterministic because the head had nothing to decide."""


def per_head(metric: str) -> str:
    """A metric of the selected heads of the selected runs."""
    return f"{metric}{{{HEAD}}}"


def per_run(metric: str) -> str:
    """A metric of the selected runs."""
    return f"{metric}{{{RUN}}}"


def latest(shape: Callable[[Read], str]) -> str:
    """The present value; where there is none, the last one within the time range (an ended run).

    A series that goes on elsewhere (a run that was restarted on another node) hides its dead predecessor,
    which ``last_over_time`` alone would bring back.
    """
    return f"{shape(str)} or {shape(lambda selector: f'last_over_time({selector}[$__range])')}"


def worst(aggregation: str, selector: str, by: str = "head") -> str:
    """The latest value by head (or by run): the worst one where several runs are selected."""
    return latest(lambda read: f"{aggregation} by ({by}) ({read(selector)})")


def known(selector: str, aggregation: str = "min", by: str = "head") -> str:
    """The latest ratio (or level) by head; none where the last update left the head nothing to decide."""
    return latest(
        lambda read: (
            f"({aggregation} by ({by}) ({read(selector)})"
            f" unless on ({by}) max by ({by}) ({read(CHOICE_SHARE)}) == 0)"
        )
    )


def level_or_no_choice(by: str) -> str:
    """The latest level, or :data:`NO_LEVEL_CODE` where the last update left the head nothing to decide."""
    return latest(
        lambda read: (
            f"({NO_LEVEL_CODE} + max by ({by}) ({read(CHOICE_SHARE)} == 0) or max by ({by}) ({read(LEVEL)}))"
        )
    )


def ratio_or_no_choice(ratio: str = RATIO) -> str:
    """A ratio by head; -1 while the head had no choice step, because then nothing can be said."""
    return f"min by (head) ({ratio}) or min by (head) (({CHOICE_SHARE} == 0) - 1)"


def head_states(read: Read = str, by: str = "head") -> str:
    """State of each head as a number (:data:`HEAD_STATE_CODES`)."""
    states = " or ".join(
        f"{code} * {read(per_head('rl_policy_head_state').replace('}', f', state={chr(34)}{state}{chr(34)}}}'))}"
        for state, code in HEAD_STATE_CODES.items()
    )
    nothing = f"{NO_CHOICE_CODE} + max by ({by}) ({read(CHOICE_SHARE)} == 0)"
    return f"({nothing} or max by ({by}) ({states}))"


def head_states_or_none() -> str:
    """State of each head; a row ``no head``, at -1, where the whole time range has none.

    A state timeline without series says that its data have no time field.
    """
    absent = f"-absent_over_time({per_head('rl_policy_head_state')}[$__range] @ end())"
    return f'{head_states()} or label_replace({absent}, "head", "no head", "", "")'


def verdicts() -> str:
    """Level and state of each head in one number: ten times the level counted from one, plus the state."""
    return latest(
        lambda read: (
            f"({head_states(read)} + on (head) 10 * (1 + max by (head) ({read(LEVEL)}))"
            f" unless on (head) {read(CHOICE_SHARE)} == 0 or {head_states(read)})"
        )
    )


def run_status(by: str = RUN_KEY) -> str:
    """What each run is doing (:class:`Status`): stalled by its alert, lost when it was last seen running."""

    def states(read: Read, running: Status) -> str:
        codes = {"running": running, "completed": 1, "interrupted": 2, "failed": 3}
        terms = " or ".join(
            f"{int(code)} * ({read(f'rl_training_run_state{{{RUN}, state={chr(34)}{state}{chr(34)}}}')} == 1)"
            for state, code in codes.items()
        )
        return f"max by ({by}) ({terms})"

    stalled = f'ALERTS{{{RUN}, alertname="RLTrainingStalled", alertstate="firing"}}'
    present = states(str, Status.RUNNING)
    last = states(lambda selector: f"last_over_time({selector}[$__range])", Status.LOST)
    return f"({int(Status.STALLED)} * max by ({by}) ({stalled}) or {present} or {last})"


def age(by: str = RUN_KEY) -> str:
    """Seconds since each run's last update, or since its start before the first one."""
    updated = f"rl_training_last_update_timestamp_seconds{{{RUN}}}"
    started = f"rl_training_start_timestamp_seconds{{{RUN}}}"
    return (
        f"time() - max by ({by}) (last_over_time({updated}[$__range]) or last_over_time({started}[$__range]))"
    )


def active_since(selector: str) -> str:
    """When each alert that fires became active, as a Unix time in seconds."""
    names = f'{selector}, alertname=~"RL.+", alertname!="RLMonitoringWatchdog"'
    return f'(ALERTS_FOR_STATE{{{names}}} and ignoring (alertstate) ALERTS{{{names}, alertstate="firing"}})'


def firing(selector: str) -> str:
    """Seconds for which each alert has been firing."""
    return f"time() - {active_since(selector)}"


def mean_duration(metric: str) -> str:
    """Mean of a duration histogram over the updates of each interval, by run; no value without an update."""
    total, count = (f"rate({metric}_{part}{{{RUN}}}[$__rate_interval])" for part in ("sum", "count"))
    return f"sum by (run_id) ({total}) / (sum by (run_id) ({count}) > 0)"


def of_process(metric: str) -> str:
    """A series of the run's process, which carries no run_id of its own, by run."""
    runs = f"max without (state) (rl_training_run_state{{{RUN}}})"
    return f"max by (run_id) ({runs} * ignoring (run_id) group_left () {metric})"
