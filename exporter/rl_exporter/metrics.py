"""Every metric of a run. A metric whose reader yields nothing has no sample: not measured is never a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal

from rl_exporter.environment_metrics import PREFIX
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import Attribute, DurationNumbers, attributes
from rl_exporter.readers import (
    Reader,
    Sample,
    action_shares,
    conditions,
    declared,
    effective_histograms,
    head_states,
    low_streaks,
    of_each_head,
    positions,
    run_info,
    run_states,
    thresholds,
    unmeasured_updates,
)
from rl_exporter.snapshot import HeadReading, SanctumSnapshot, TamiyoState

ENVIRONMENT_HELP = "Reported by the environments; mean over the last episodes that reported it, 100 at most."

_UNITS = ("nats", "ratio", "seconds", "steps", "updates")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``read`` yields its samples from a snapshot.

    ``after`` names the metric that it follows in the body; by default the metrics stand as they are listed.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Reader
    after: str = ""

    @property
    def unit(self) -> str:
        """Unit as OpenMetrics wants it: the suffix of the name, or nothing."""
        suffix = self.name.removesuffix("_total").rpartition("_")[2]
        return suffix if suffix in _UNITS else ""


def _head_metrics() -> Iterator[Metric]:
    """The numbers of ``HeadReading``; those that share a metric are told apart by their labels."""
    numbers = attributes(HeadReading)
    for name in dict.fromkeys(number.row.metric for number in numbers):
        same = [number for number in numbers if number.row.metric == name]
        row = same[0].row
        labels = ("head", *(label for label, _ in row.labels))
        yield Metric(name, row.kind, row.help, labels, of_each_head(same), row.after)


def _of_the_policy(number: Attribute) -> Metric:
    return _scalar(number, lambda snapshot: number.of(snapshot.tamiyo))


def _of_the_run(number: Attribute) -> Metric:
    return _scalar(number, number.of)


def _scalar(number: Attribute, value: Callable[[SanctumSnapshot], float | None]) -> Metric:
    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        found = value(snapshot)
        if found is not None:
            yield (), float(found)

    return Metric(number.row.metric, number.row.kind, number.row.help, (), read, number.row.after)


def _duration(number: Attribute) -> Metric:
    row, histogram = number.row, f"{number.name}s"
    return Metric(row.metric, row.kind, row.help, (), lambda snapshot: [((), getattr(snapshot, histogram))])


# fmt: off
_HEAD_DETAILS = (
    Metric("rl_policy_head_entropy_max_nats", "gauge",
           "Entropy of the uniform distribution over all choices of the head.",
           ("head",), declared(lambda head: head.max_entropy), after="rl_policy_head_entropy_nats"),
    Metric("rl_policy_head_position", "gauge", "Place of the head in the order in which the policy declares its heads.",
           ("head",), positions, after="rl_policy_head_entropy_max_nats"),
    Metric("rl_policy_head_effective_entropy_ratio", "histogram",
           "Effective ratio of every update that had one: choice entropy; normalized if no choice is reported.",
           ("head",), effective_histograms, after="rl_policy_head_open_steps_ratio"),
    Metric("rl_policy_head_low_entropy_streak_updates", "gauge",
           "Consecutive updates, up to the last that had one, with an effective ratio at or below the threshold.",
           ("head", "threshold"), low_streaks, after="rl_policy_head_effective_entropy_ratio"),
    Metric("rl_policy_head_entropy_threshold_ratio", "gauge",
           "Effective ratio at or below which the head has the level; 0 switches the level off.",
           ("head", "level"), thresholds, after="rl_policy_head_entropy_reference_nats"),
    Metric("rl_policy_head_action_ratio", "gauge",
           "Mean probability of the action over the choice steps of the head; for heads of up to 16 choices.",
           ("head", "action"), action_shares, after="rl_policy_head_advantage_margin_t_ratio"),
    Metric("rl_policy_head_unmeasured_updates", "gauge", "Updates since the entropy of the head was last measured.",
           ("head",), unmeasured_updates, after="rl_policy_head_entropy_slope_ratio"),
    Metric("rl_policy_head_entropy_coefficient", "gauge", "Multiplier of the base entropy coefficient for the head.",
           ("head",), declared(lambda head: head.entropy_multiplier), after="rl_policy_head_unmeasured_updates"),
    Metric("rl_policy_head_state", "gauge", "1 for the present state of the head, else 0.", ("head", "state"),
           head_states, after="rl_policy_head_importance_ratio_max"),
    Metric("rl_policy_head_condition_since_timestamp_seconds", "gauge",
           "Unix time at which the current condition began; exported once it has held for three updates.",
           ("head", "condition"), conditions, after="rl_policy_head_state_streak_updates"),
)
# fmt: on
"""Metrics of the heads whose samples are not one number each."""

_START, _LAST_UPDATE = (
    next(number for number in attributes(SanctumSnapshot) if number.name == name)
    for name in ("start_timestamp", "last_update_timestamp")
)


def _in_order(metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """As listed, but each metric with ``after`` behind the one that it names."""
    ordered: list[Metric] = []
    waiting: list[Metric] = []
    for metric in metrics:
        (waiting if metric.after else ordered).append(metric)
    while waiting:
        metric = next(one for one in waiting if any(one.after == other.name for other in ordered))
        waiting.remove(metric)
        place = next(place for place, other in enumerate(ordered) if other.name == metric.after)
        ordered.insert(place + 1, metric)
    return tuple(ordered)


UPDATE_METRICS: tuple[Metric, ...] = _in_order(
    (
        *_head_metrics(),
        *_HEAD_DETAILS,
        *map(_of_the_policy, attributes(TamiyoState)),
        *(
            _of_the_run(number)
            for number in attributes(SanctumSnapshot)
            if number not in {_START, _LAST_UPDATE}
        ),
        *map(_duration, attributes(DurationNumbers)),
        _of_the_run(_LAST_UPDATE),
    )
)
"""What changes with an update only: encoded once per update and then served from memory."""

LIVE_METRICS: tuple[Metric, ...] = (
    _of_the_run(_START),
    Metric(
        "rl_training_run_state", "gauge", "1 for the present state of the run, else 0.", ("state",), run_states
    ),
    Metric(
        "rl_training_run_info",
        "gauge",
        "Always 1; the labels describe the run.",
        ("experiment", "algorithm", "environment", "seed", "device", "world_size"),
        run_info,
    ),
)
"""What can change at any moment: read at every scrape."""


SELF_METRICS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    ("rl_exporter_build_info", "gauge", ("version", "python"), "Always 1; version of the exporter."),
    (
        "rl_exporter_record_errors_total",
        "counter",
        (),
        "Errors inside telemetry; each lost an update's values or part of them.",
    ),
    (
        "rl_exporter_dropped_values_total",
        "counter",
        ("field",),
        "Values that were impossible and not kept, by argument of record; absent until there was one.",
    ),
    (
        "rl_exporter_render_duration_seconds",
        "summary",
        (),
        "Time spent rendering /metrics; the count is the number of scrapes answered.",
    ),
)
"""Name, type, labels and help of what the exporter says of itself, without run_id."""


def environment_metrics(snapshot: SanctumSnapshot) -> Iterator[Metric]:
    """What the environments of this run report: names and labels are theirs."""
    for name, numbers in groupby(snapshot.environment_metrics, lambda number: number.series.name):
        samples = [(dict(series.labels), value) for series, value in numbers]
        labels = tuple(samples[0][0])
        read = [(tuple(found.values()), value) for found, value in samples]
        yield Metric(f"{PREFIX}{name}", "gauge", ENVIRONMENT_HELP, labels, partial(_these, read))


def _these(samples: Sequence[Sample], _snapshot: SanctumSnapshot) -> Sequence[Sample]:
    return samples


def update_values(snapshot: SanctumSnapshot) -> dict[str, object]:
    """Every value that /metrics shows for the last update, by metric name and then by label values.

    A histogram stands under its three names, with a level more for ``le``.
    """
    values: dict[str, object] = {}
    for metric in (*UPDATE_METRICS, *environment_metrics(snapshot)):
        for labels, value in metric.read(snapshot):
            if isinstance(value, Histogram):
                _put(values, [f"{metric.name}_bucket", *labels], dict(value.cumulative()))
                _put(values, [f"{metric.name}_sum", *labels], value.sum)
                _put(values, [f"{metric.name}_count", *labels], sum(value.counts))
            else:
                _put(values, [metric.name, *labels], value)
    return values


def _put(tree: dict[str, object], path: list[str], value: object) -> None:
    *branches, leaf = path
    for branch in branches:
        tree = tree.setdefault(branch, {})  # type: ignore[assignment] # every inner value is such a dict
    tree[leaf] = value
