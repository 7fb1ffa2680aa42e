"""PromQL of the dashboards: selectors, and values that outlive their run within the time range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

from rl_exporter.environment_metrics import PREFIX
from rl_exporter.health import HeadState, Level

RUN = 'cluster=~"$cluster", run_id=~"$run_id"'
HEAD = RUN + ', head=~"$head"'
RUN_KEY = "cluster, namespace, run_id"
"""Labels that identify a run."""

HEAD_KEY = f"{RUN_KEY}, head"
"""Labels that identify a head of a run. Scraped and recorded series are joined on these alone: a ruler may add labels."""

RATIO = f"head:rl_policy_effective_entropy:ratio{{{HEAD}}}"
LEVEL = f"head:rl_policy_effective_entropy:level{{{HEAD}}}"
CHOICE_SHARE = f"rl_policy_head_choice_steps_ratio{{{HEAD}}}"

LEVEL_CODES = {level: code for code, level in enumerate(Level)}
"""The numbers 0, 1, 2 that the recording rule gives to levels."""


Read = Callable[[str], str]
"""Turns a selector into an expression: the current value, or the last one within the time range."""


class RunPhase(IntEnum):
    """Phase of a run as Prometheus sees it: what the run reports, or stalled or lost. The larger is the worse."""

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
"""Numbers for states, because panels colour numbers and ``max`` picks one. The larger is the worse."""

NO_CHOICE_CODE = 6
"""Deterministic because the head had no choice step."""


def head_selector(metric: str) -> str:
    """Selector of a metric of the selected heads and runs."""
    return f"{metric}{{{HEAD}}}"


def run_selector(metric: str) -> str:
    """Selector of a metric of the selected runs."""
    return f"{metric}{{{RUN}}}"


def environment_selector(name: str = ".+") -> str:
    """Selector of what the environments of the selected runs report; ``name`` is a pattern without the prefix."""
    return f'{{__name__=~"{PREFIX}{name}", {RUN}}}'


def latest(shape: Callable[[Read], str]) -> str:
    """The current value, or for an ended run the last one within the time range.

    The current value comes first, because ``last_over_time`` alone also returns the old series of a run that
    was restarted on another node.
    """
    return f"{shape(str)} or {shape(last)}"


def worst_by(aggregation: str, selector: str, by: str = "head") -> str:
    """The latest value by head or by run. Of several selected runs, the worst."""
    return latest(lambda read: f"{aggregation} by ({by}) ({read(selector)})")


def latest_ratio(selector: str, aggregation: str = "min", by: str = "head") -> str:
    """The latest ratio or level by head. Empty for a head without a choice step in its last update."""
    return latest(
        lambda read: (
            f"({aggregation} by ({by}) ({read(selector)})"
            f" unless on ({by}) max by ({by}) ({read(CHOICE_SHARE)}) == 0)"
        )
    )


def last(selector: str) -> str:
    """The last value within the time range."""
    return f"last_over_time({selector}[$__range])"


def colours(levels: Mapping[Level, str]) -> str:
    """The latest level of each head, with a label ``colour``: ``levels`` gives the colour of each level."""
    level = latest_ratio(LEVEL, "max")
    return " or ".join(
        f'label_replace(({level}) == {LEVEL_CODES[which]}, "colour", "{colour}", "", "")'
        for which, colour in levels.items()
    )


def thresholds(level: Level, read: Read = str) -> str:
    """The thresholds that the run declared for its heads; a threshold of 0 is switched off."""
    selector = f'rl_policy_head_entropy_threshold_ratio{{{HEAD}, level="{level}"}}'
    return f"max by (head) ({read(selector)}) > 0"


def leading_actions() -> str:
    """The share of the action that each head takes most, with its name."""
    shares = head_selector("rl_policy_head_action_ratio")
    now, ended = (f"avg by (head, action) ({read})" for read in (shares, last(shares)))
    return f"topk by (head) (1, {now} or on (head) {ended})"


def ratio_or_no_choice(ratio: str = RATIO) -> str:
    """A ratio by head, or -1 for a head without a choice step, whose ratio is undefined."""
    return f"min by (head) ({ratio}) or min by (head) (({CHOICE_SHARE} == 0) - 1)"


def head_state_codes(read: Read = str, by: str = "head") -> str:
    """State of each head as a number (:data:`HEAD_STATE_CODES`)."""
    states = " or ".join(
        f"{code} * {read(head_selector('rl_policy_head_state').replace('}', f', state={chr(34)}{state}{chr(34)}}}'))}"
        for state, code in HEAD_STATE_CODES.items()
    )
    nothing = f"{NO_CHOICE_CODE} + max by ({by}) ({read(CHOICE_SHARE)} == 0)"
    return f"({nothing} or max by ({by}) ({states}))"


def head_state_codes_or_none() -> str:
    """State of each head, or one row ``no head`` at -1 if the time range has none.

    A state timeline without series would report that its data have no time field.
    """
    absent = f"-absent_over_time({head_selector('rl_policy_head_state')}[$__range] @ end())"
    return f'{head_state_codes()} or label_replace({absent}, "head", "no head", "", "")'


def run_phase(by: str = RUN_KEY) -> str:
    """Phase of each run (:class:`RunPhase`). Stalled: its alert fires. Lost: gone, and last scraped as running."""

    def state_timeline_panel(read: Read, running: RunPhase) -> str:
        codes = {"running": running, "completed": 1, "interrupted": 2, "failed": 3}
        terms = " or ".join(
            f"{int(code)} * ({read(f'rl_training_run_state{{{RUN}, state={chr(34)}{state}{chr(34)}}}')} == 1)"
            for state, code in codes.items()
        )
        return f"max by ({by}) ({terms})"

    stalled = f'ALERTS{{{RUN}, alertname="RLTrainingStalled", alertstate="firing"}}'
    present = state_timeline_panel(str, RunPhase.RUNNING)
    gone = state_timeline_panel(last, RunPhase.LOST)
    return f"({int(RunPhase.STALLED)} * max by ({by}) ({stalled}) or {present} or {gone})"


def seconds_since_update(by: str = RUN_KEY) -> str:
    """Seconds since each run's last update, or since its start if there was none."""
    updated = f"rl_training_last_update_timestamp_seconds{{{RUN}}}"
    started = f"rl_training_start_timestamp_seconds{{{RUN}}}"
    return (
        f"time() - max by ({by}) (last_over_time({updated}[$__range]) or last_over_time({started}[$__range]))"
    )


def active_since(selector: str) -> str:
    """Unix time at which each firing alert became active."""
    names = f'{selector}, alertname=~"RL.+", alertname!="RLMonitoringWatchdog"'
    return f'(ALERTS_FOR_STATE{{{names}}} and ignoring (alertstate) ALERTS{{{names}, alertstate="firing"}})'


def firing_seconds(selector: str) -> str:
    """Seconds since each firing alert became active."""
    return f"time() - {active_since(selector)}"


def mean_duration(metric: str) -> str:
    """Mean of a duration histogram over the updates of each interval, by run. Empty without an update."""
    total, count = (f"rate({metric}_{part}{{{RUN}}}[$__rate_interval])" for part in ("sum", "count"))
    return f"sum by (run_id) ({total}) / (sum by (run_id) ({count}) > 0)"


def process_metric(metric: str) -> str:
    """A process metric by run. It has no run_id, so it is joined with a series of the same target that has."""
    runs = f"max without (state) (rl_training_run_state{{{RUN}}})"
    return f"max by (run_id) ({runs} * ignoring (run_id) group_left () {metric})"
