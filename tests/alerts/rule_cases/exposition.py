"""What the exporter exposes of a simulated run at every scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.alerts.rule_cases.definitions import slope
from tests.alerts.rule_cases.simulation import Declared, HeadState, Run, explained_share

STATES = ("exploding", "dead", "deterministic", "confused", "healthy", "unsettled")
RUN_STATES = ("running", "completed", "interrupted", "failed")

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
Sample = tuple[str, Labels, float]


def heads_of(run: Run) -> dict[str, HeadState]:
    """The heads of a run before its first update."""
    return {
        name: HeadState(choices, run.declared.get(name, Declared())) for name, choices in run.choices.items()
    }


def exposed(run: Run, updates: int) -> dict[Key, float]:
    """Samples of /metrics right after update number ``updates``, without run_id."""
    heads = heads_of(run)
    for number in range(1, updates + 1):
        for name, state in heads.items():
            state.update(number, run.policy(number)[name], run.update_time(number))
    now = run.update_time(updates)
    return {(name, labels): value for name, labels, value in samples(run, heads, updates, now)}


def samples(run: Run, heads: Mapping[str, HeadState], number: int, now: float) -> Iterator[Sample]:
    present = run.end[1] if now >= run.end[0] else "running"
    for run_state in RUN_STATES:
        yield "rl_training_run_state", (("state", run_state),), float(run_state == present)
    yield "rl_training_start_timestamp_seconds", (), run.start
    yield "rl_training_updates_total", (), run.resumed + number
    yield "rl_training_resumed_updates", (), run.resumed
    yield "rl_exporter_record_errors_total", (), run.record_errors(now)
    for part, share in (("rollout", 0.75), ("update", 0.25)):
        count = number if run.durations else 0
        yield f"rl_training_{part}_duration_seconds_sum", (), share * run.period * count
        yield f"rl_training_{part}_duration_seconds_count", (), count
    if number:
        yield "rl_training_last_update_timestamp_seconds", (), run.update_time(number)
        if run.returns:
            yield "rl_training_episode_return", (), run.returns(number)
            yield "rl_training_episode_return_max", (), max(map(run.returns, range(1, number + 1)))
    for name, state in heads.items():
        label = (("head", name),)
        yield "rl_policy_head_entropy_max_nats", label, state.most
        if not isinstance(state.reference, str):
            yield "rl_policy_head_entropy_reference_nats", label, state.reference
        for level in ("warning", "critical"):
            threshold = getattr(state.declared, level)
            yield "rl_policy_head_entropy_threshold_ratio", (*label, ("level", level)), threshold
        if state.normalized is not None:
            yield "rl_policy_head_entropy_nats", label, state.normalized * state.most
            yield "rl_policy_head_entropy_normalized_ratio", label, state.normalized
        yield from ((metric, (*label, *more), value) for metric, more, value in _head(state, number))


def _head(head: HeadState, number: int) -> Iterator[Sample]:
    yield "rl_policy_head_effective_entropy_ratio_count", (), head.count
    yield "rl_policy_head_nonfinite_values_total", (("kind", "nan"),), head.nans
    for condition, (updates, since) in head.since.items():
        if updates >= 3:
            yield "rl_policy_head_condition_since_timestamp_seconds", (("condition", condition),), since
    if not head.measured_update:
        return
    last = head.last
    yield "rl_policy_head_unmeasured_updates", (), number - head.measured_update
    yield from _words(head)
    for action, share in last.shares:
        yield "rl_policy_head_action_ratio", (("action", action),), share
    optional = {
        "choice_entropy_ratio": last.choice,
        "choice_steps_ratio": last.share,
        "open_steps_ratio": last.open,
        "entropy_slope_ratio": slope(head.ratios),
        "state_information_nats": last.information,
        "state_information_ratio": explained_share(last, head.most),
        "advantage_margin_t_ratio": last.margin_t,
        "controller_saturated_updates": last.saturated,
    }
    for name, value in optional.items():
        if value is not None:
            yield f"rl_policy_head_{name}", (), round(value, 9)


def _words(head: HeadState) -> Iterator[Sample]:
    """The state, and the streaks of the levels."""
    if head.state:
        for state in STATES:
            yield "rl_policy_head_state", (("state", state),), float(state == head.state)
        yield "rl_policy_head_state_streak_updates", (), head.state_streak
    for threshold, streak in head.streaks.items():
        if threshold and head.count:
            yield "rl_policy_head_low_entropy_streak_updates", (("threshold", f"{threshold:g}"),), streak
