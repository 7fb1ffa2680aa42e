"""PromQL of the dashboards: selectors, and values that outlive their run within the time range."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum

from rl_exporter.environment_metrics import PREFIX
from rl_exporter.health import HeadState, Level


def chosen(name: str) -> str:
    """Matcher of what is chosen of a variable that may have several values.

    In a raw string of PromQL, whatever quotes a name holds: within ``"$run_id"`` Grafana's data source leaves a
    double quote as it is, which ends the string.
    """
    return f"{name}=~`${{{name}:regex}}`"


RUN = ", ".join(map(chosen, ("cluster", "namespace", "run_id")))
OF_HEAD = f", {chosen('head')}"
HEAD = RUN + OF_HEAD
RUN_KEY = "cluster, namespace, run_id"
"""Labels that identify a run."""

TARGET_KEY = f"job, instance, {RUN_KEY}"
"""Labels that identify what one target says of a run."""

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
    """Phase of a run as Prometheus sees it: what the run reports, or stalled or lost. From ``COMPLETED`` on it is over."""

    RUNNING = 0
    STALLED = 1
    COMPLETED = 2
    INTERRUPTED = 3
    FAILED = 4
    LOST = 5


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
    """The current value, or for an ended run the last one within the time range: see ``at_the_end``."""
    return f"{shape(str)} or {shape(at_the_end)}"


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


def at_the_end(selector: str) -> str:
    """The last value within the time range that the last target of its run gave."""
    return f"({of_last_target(last(selector))})"


def of_last_target(values: str) -> str:
    """Those of the target that saw the last update of their run, or its last start.

    A run that was restarted on another node has left series of the first one, which say no more of it.
    """
    updated, started = (
        last(run_selector(f"rl_training_{name}_timestamp_seconds")) for name in ("last_update", "start")
    )
    return f"{values} and on ({TARGET_KEY}) topk by ({RUN_KEY}) (1, {updated} or {started})"


def running(read: Read = str) -> str:
    """1 for each run that is scraped and says that it is running."""
    return f"max by ({RUN_KEY}) ({read(run_state('running'))} == 1)"


def run_state(state: str) -> str:
    """Selector of one state of the selected runs."""
    return f'rl_training_run_state{{{RUN}, state="{state}"}}'


def colours(levels: Mapping[Level, str], ended: str) -> str:
    """The latest level of each head, with a label ``colour``: ``levels`` gives the colour of each level.

    Healthy heads of a run that is over get the colour ``ended``: what was well then says nothing about now.
    """
    level = f"({latest_ratio(LEVEL, 'max')})"

    def coloured(which: Level, colour: str, more: str = "") -> str:
        return f'label_replace({level} == {LEVEL_CODES[which]}{more}, "colour", "{colour}", "", "")'

    healthy = coloured(Level.HEALTHY, levels[Level.HEALTHY], f" and on () {running()}")
    over = coloured(Level.HEALTHY, ended)
    others = (coloured(which, levels[which]) for which in levels if which is not Level.HEALTHY)
    return " or ".join((f"({healthy} or on (head) {over})", *others))


def positions(read: Read = str, by: str = "head") -> str:
    """Where each head stands in the declared order; runs of older exporters do not say it."""
    declared = f"max by ({by}) ({read(head_selector('rl_policy_head_position'))})"
    return f"({declared} or 0 * max by ({by}) ({read(head_selector('rl_policy_head_entropy_max_nats'))}) + 800)"


def in_order(expression: str, by: str = "head") -> str:
    """The same series in the declared order of the heads, op first.

    Prometheus sorts series by their labels, so each gets its place as a label whose name comes before all others.
    """
    return f'({expression}) * on ({by}) group_left (at) count_values by ({by}) ("at", 100 + {positions(by=by)})'


def thresholds(level: Level, read: Read = str) -> str:
    """The thresholds that the run declared for its heads; a threshold of 0 is switched off."""
    selector = f'rl_policy_head_entropy_threshold_ratio{{{HEAD}, level="{level}"}}'
    return f"max by (head) ({read(selector)}) > 0"


def leading_actions() -> str:
    """The share of the action that each head takes most, with its name."""
    shares = head_selector("rl_policy_head_action_ratio")
    now, ended = (f"avg by (head, action) ({read})" for read in (shares, at_the_end(shares)))
    return f"topk by (head) (1, {now} or on (head) {ended})"


def head_state_codes(read: Read = str, by: str = "head") -> str:
    """State of each head as a number (:data:`HEAD_STATE_CODES`)."""
    states = " or ".join(
        f"{code} * max by ({by}) ({read(head_state(state))} == 1)" for state, code in HEAD_STATE_CODES.items()
    )
    nothing = f"{NO_CHOICE_CODE} + 0 * max by ({by}) ({read(CHOICE_SHARE)} == 0)"
    worst = f"{HEAD_STATE_CODES[HeadState.EXPLODING]} * max by ({by}) ({read(head_state(HeadState.EXPLODING))} == 1)"
    return f"({worst} or {nothing} or {states})"


def head_state(state: HeadState) -> str:
    """Selector of one state of the selected heads."""
    return f'rl_policy_head_state{{{HEAD}, state="{state}"}}'


def run_phase(by: str = RUN_KEY, codes: Mapping[RunPhase, float] | None = None) -> str:
    """Phase of each run (:class:`RunPhase`), as a number of ``codes``.

    Stalled: its alert fires. Lost: gone, and last scraped as running.
    """
    number = codes or {phase: int(phase) for phase in RunPhase}

    def reported(read: Read, running_is: RunPhase, by: str) -> str:
        return " or ".join(
            f"{number[phase]:g} + 0 * max by ({by}) ({read(run_state(state))} == 1)"
            for state, phase in (("running", running_is), *_REPORTED.items())
        )

    stalled = f'ALERTS{{{RUN}, alertname="RLTrainingStalled", alertstate="firing"}}'
    held_up = f"(max by ({by}) ({stalled}) and max by ({by}) ({run_state('running')} == 1))"
    present, gone = reported(str, RunPhase.RUNNING, by), reported(last, RunPhase.LOST, TARGET_KEY)
    last_seen = f"max by ({by}) ({of_last_target(f'({gone})')})"
    return f"({number[RunPhase.STALLED]:g} + 0 * {held_up} or {present} or {last_seen})"


_REPORTED = {
    "completed": RunPhase.COMPLETED,
    "interrupted": RunPhase.INTERRUPTED,
    "failed": RunPhase.FAILED,
}


def seconds_since_update(by: str = RUN_KEY) -> str:
    """Seconds since each run's last update, or since its start if there was none."""
    updated = f"rl_training_last_update_timestamp_seconds{{{RUN}}}"
    started = f"rl_training_start_timestamp_seconds{{{RUN}}}"
    return (
        f"time() - max by ({by}) (last_over_time({updated}[$__range]) or last_over_time({started}[$__range]))"
    )


def mean_duration(metric: str) -> str:
    """Mean of a duration histogram over the updates of each interval, by run. Empty without an update."""
    total, count = (f"rate({metric}_{part}{{{RUN}}}[$__rate_interval])" for part in ("sum", "count"))
    return f"sum by (run_id) ({total}) / (sum by (run_id) ({count}) > 0)"


def process_metric(metric: str) -> str:
    """A process metric by run. It has no run_id, so it is joined with a series of the same target that has."""
    runs = f"max without (state) (rl_training_run_state{{{RUN}}})"
    return f"max by (run_id) ({runs} * ignoring (run_id) group_left () {metric})"
