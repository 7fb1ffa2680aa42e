"""Every metric of a run: its name, type, help and labels, and how it reads from a snapshot.

A metric whose reader yields no value has no sample: not measured is never shown as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from rl_exporter.heads import Head
from rl_exporter.snapshot import HeadReading, RunState, SanctumSnapshot

Sample = tuple[tuple[str, ...], float]
"""Label values beside run_id, and a value."""

_UNITS = ("nats", "ratio", "seconds", "updates")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``read`` yields its samples from a snapshot."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[SanctumSnapshot], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Unit as OpenMetrics wants it: the suffix of the name, or nothing."""
        suffix = self.name.removesuffix("_total").rpartition("_")[2]
        return suffix if suffix in _UNITS else ""


def _scalar(value: Callable[[SanctumSnapshot], float | None]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        number = value(snapshot)
        if number is not None:
            yield (), float(number)

    return read


def _per_head(value: Callable[[HeadReading], float | None]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        for name, reading in snapshot.tamiyo.readings.items():
            number = value(reading)
            if number is not None:
                yield (name,), float(number)

    return read


def _declared(value: Callable[[Head], float]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    return lambda snapshot: [((head.name,), value(head)) for head in snapshot.tamiyo.heads]


def _unmeasured_updates(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    for name in snapshot.tamiyo.readings:
        updates = snapshot.tamiyo.unmeasured_updates(name)
        if updates is not None:
            yield (name,), float(updates)


def _run_states(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    for state in RunState:
        yield (state.value,), float(state is snapshot.run_state)


def _run_info(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    run = snapshot.run
    yield (run.experiment, run.algorithm, run.environment, run.seed, run.device, str(run.world_size)), 1.0


UPDATE_METRICS: tuple[Metric, ...] = (
    Metric(
        "rl_policy_head_entropy_nats",
        "gauge",
        "Mean entropy of the head under its step mask, over the steps and epochs of the last measured update.",
        ("head",),
        _per_head(lambda reading: reading.entropy if reading.measured else None),
    ),
    Metric(
        "rl_policy_head_entropy_max_nats",
        "gauge",
        "Entropy of the uniform distribution over all choices of the head.",
        ("head",),
        _declared(lambda head: head.max_entropy),
    ),
    Metric(
        "rl_policy_head_entropy_normalized_ratio",
        "gauge",
        "Entropy of the head divided by its maximum: 1 is uniform, 0 is deterministic.",
        ("head",),
        _per_head(lambda reading: reading.normalized),
    ),
    Metric(
        "rl_policy_head_choice_entropy_ratio",
        "gauge",
        "Mean entropy relative to ln(valid choices) over the steps at which the head decided something.",
        ("head",),
        _per_head(lambda reading: reading.choice_entropy),
    ),
    Metric(
        "rl_policy_head_choice_steps_ratio",
        "gauge",
        "Share of the steps at which the head was consulted and had two or more valid choices.",
        ("head",),
        _per_head(lambda reading: reading.choice_share),
    ),
    Metric(
        "rl_policy_head_open_steps_ratio",
        "gauge",
        "Share of the steps at which some valid operation would have left the head two or more choices.",
        ("head",),
        _per_head(lambda reading: reading.open_share),
    ),
    Metric(
        "rl_policy_head_unmeasured_updates",
        "gauge",
        "Updates since the entropy of the head was last measured.",
        ("head",),
        _unmeasured_updates,
    ),
    Metric(
        "rl_policy_head_entropy_coefficient",
        "gauge",
        "Multiplier of the base entropy coefficient for the head.",
        ("head",),
        _declared(lambda head: head.entropy_multiplier),
    ),
    Metric(
        "rl_policy_entropy_coefficient",
        "gauge",
        "Base entropy coefficient of the loss.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.entropy_coefficient),
    ),
    Metric(
        "rl_policy_entropy_nats",
        "gauge",
        "Sum of the entropies of all heads; absent unless the last update measured every head.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.entropy),
    ),
    Metric(
        "rl_policy_kl_divergence_nats",
        "gauge",
        "Mean of (ratio - 1 - log ratio) between the updated policy and the one that acted.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.kl_divergence),
    ),
    Metric(
        "rl_policy_clipped_steps_ratio",
        "gauge",
        "Share of the steps at which the importance ratio of a deciding head was outside the clip range.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.clipped_share),
    ),
    Metric(
        "rl_policy_gradient_norm",
        "gauge",
        "Norm of the whole gradient before clipping, mean over the optimiser steps of the update.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.gradient_norm),
    ),
    Metric(
        "rl_policy_loss",
        "gauge",
        "Clipped surrogate loss, summed over the heads, mean over the optimiser steps of the update.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.policy_loss),
    ),
    Metric(
        "rl_value_loss",
        "gauge",
        "Half the mean squared error of the value estimates, mean over the optimiser steps of the update.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.value_loss),
    ),
    Metric(
        "rl_value_explained_variance",
        "gauge",
        "Share of the variance of the returns that the value estimates of the rollout explained.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.explained_variance),
    ),
    Metric(
        "rl_training_updates_total",
        "counter",
        "PPO updates since the start of the run.",
        (),
        _scalar(lambda snapshot: snapshot.tamiyo.updates),
    ),
    Metric(
        "rl_training_environment_steps_total",
        "counter",
        "Environment steps since the start of the run, over all parallel environments.",
        (),
        _scalar(lambda snapshot: snapshot.environment_steps),
    ),
    Metric(
        "rl_training_episodes_total",
        "counter",
        "Episodes finished since the start of the run, over all parallel environments.",
        (),
        _scalar(lambda snapshot: snapshot.episodes),
    ),
    Metric(
        "rl_training_episode_return",
        "gauge",
        "Mean return of the last finished episodes, 100 at most.",
        (),
        _scalar(lambda snapshot: snapshot.episode_return),
    ),
    Metric(
        "rl_training_last_update_timestamp_seconds",
        "gauge",
        "Unix time of the last update.",
        (),
        _scalar(lambda snapshot: snapshot.last_update_timestamp),
    ),
)
"""What changes with an update only: rendered once per update and then served from memory."""

LIVE_METRICS: tuple[Metric, ...] = (
    Metric(
        "rl_training_start_timestamp_seconds",
        "gauge",
        "Unix time of the start of the run.",
        (),
        _scalar(lambda snapshot: snapshot.start_timestamp),
    ),
    Metric(
        "rl_training_run_state",
        "gauge",
        "1 for the present state of the run, else 0.",
        ("state",),
        _run_states,
    ),
    Metric(
        "rl_training_run_info",
        "gauge",
        "Always 1; the labels describe the run.",
        ("experiment", "algorithm", "environment", "seed", "device", "world_size"),
        _run_info,
    ),
)
"""What can change at any moment: read at every scrape."""


def update_values(snapshot: SanctumSnapshot) -> dict[str, object]:
    """Every value that /metrics shows for the last update, by metric name and then by label value."""
    values: dict[str, object] = {}
    for metric in UPDATE_METRICS:
        samples = list(metric.read(snapshot))
        if metric.labels:
            values[metric.name] = {labels[0]: value for labels, value in samples}
        elif samples:
            values[metric.name] = samples[0][1]
    return values
