"""Every metric of a run: its name, type, help and labels, and how it reads from a snapshot.

A metric whose reader yields no value has no sample: not measured is never shown as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from rl_exporter.histogram import Histogram
from rl_exporter.samples import (
    Sample,
    declared,
    effective_histograms,
    head_states,
    histogram,
    low_streaks,
    nonfinite_values,
    per_head,
    run_info,
    run_states,
    scalar,
    unmeasured_updates,
)
from rl_exporter.snapshot import SanctumSnapshot

_UNITS = ("nats", "ratio", "seconds", "updates")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``read`` yields its samples from a snapshot."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[SanctumSnapshot], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Unit as OpenMetrics wants it: the suffix of the name, or nothing."""
        suffix = self.name.removesuffix("_total").rpartition("_")[2]
        return suffix if suffix in _UNITS else ""


UPDATE_METRICS: tuple[Metric, ...] = (
    Metric(
        "rl_policy_head_entropy_nats",
        "gauge",
        "Mean entropy of the head under its step mask, over the steps and epochs of the last measured update.",
        ("head",),
        per_head(lambda reading: reading.entropy if reading.measured else None),
    ),
    Metric(
        "rl_policy_head_entropy_max_nats",
        "gauge",
        "Entropy of the uniform distribution over all choices of the head.",
        ("head",),
        declared(lambda head: head.max_entropy),
    ),
    Metric(
        "rl_policy_head_entropy_normalized_ratio",
        "gauge",
        "Entropy of the head divided by its maximum: 1 is uniform, 0 is deterministic.",
        ("head",),
        per_head(lambda reading: reading.normalized),
    ),
    Metric(
        "rl_policy_head_choice_entropy_ratio",
        "gauge",
        "Mean entropy relative to ln(valid choices) over the steps at which the head decided something.",
        ("head",),
        per_head(lambda reading: reading.choice_entropy),
    ),
    Metric(
        "rl_policy_head_choice_steps_ratio",
        "gauge",
        "Share of the steps at which the head was consulted and had two or more valid choices.",
        ("head",),
        per_head(lambda reading: reading.choice_share),
    ),
    Metric(
        "rl_policy_head_open_steps_ratio",
        "gauge",
        "Share of the steps at which some valid operation would have left the head two or more choices.",
        ("head",),
        per_head(lambda reading: reading.open_share),
    ),
    Metric(
        "rl_policy_head_effective_entropy_ratio",
        "histogram",
        "Effective ratio of every update that had one: choice entropy; normalized if no choice is reported.",
        ("head",),
        effective_histograms,
    ),
    Metric(
        "rl_policy_head_low_entropy_streak_updates",
        "gauge",
        "Consecutive updates, up to the last that had one, with an effective ratio at or below the threshold.",
        ("head", "threshold"),
        low_streaks,
    ),
    Metric(
        "rl_policy_head_entropy_slope_ratio",
        "gauge",
        "Least-squares change of the effective ratio per update, over the last 10 updates that had one.",
        ("head",),
        per_head(lambda reading: reading.slope),
    ),
    Metric(
        "rl_policy_head_unmeasured_updates",
        "gauge",
        "Updates since the entropy of the head was last measured.",
        ("head",),
        unmeasured_updates,
    ),
    Metric(
        "rl_policy_head_entropy_coefficient",
        "gauge",
        "Multiplier of the base entropy coefficient for the head.",
        ("head",),
        declared(lambda head: head.entropy_multiplier),
    ),
    Metric(
        "rl_policy_head_gradient_norm",
        "gauge",
        "Gradient norm of the parameters of the head before clipping, mean of the finite ones of the update.",
        ("head",),
        per_head(lambda reading: reading.gradient_norm),
    ),
    Metric(
        "rl_policy_head_importance_ratio_max",
        "gauge",
        "Largest probability ratio between the updated policy and the one that acted, at a choice step.",
        ("head",),
        per_head(lambda reading: reading.importance_ratio_max),
    ),
    Metric(
        "rl_policy_head_state",
        "gauge",
        "1 for the present state of the head, else 0.",
        ("head", "state"),
        head_states,
    ),
    Metric(
        "rl_policy_head_state_streak_updates",
        "gauge",
        "Consecutive updates that the head has been in its present state.",
        ("head",),
        per_head(lambda reading: reading.state_streak if reading.state else None),
    ),
    Metric(
        "rl_policy_head_nonfinite_values_total",
        "counter",
        "Steps whose logits at valid actions held NaN, else infinity, and gradient norms that were not finite.",
        ("head", "kind"),
        nonfinite_values,
    ),
    Metric(
        "rl_policy_entropy_coefficient",
        "gauge",
        "Base entropy coefficient of the loss.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.entropy_coefficient),
    ),
    Metric(
        "rl_policy_entropy_nats",
        "gauge",
        "Sum of the entropies of all heads; absent unless the last update measured every head.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.entropy),
    ),
    Metric(
        "rl_policy_kl_divergence_nats",
        "gauge",
        "Mean of (ratio - 1 - log ratio) between the updated policy and the one that acted.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.kl_divergence),
    ),
    Metric(
        "rl_policy_clipped_steps_ratio",
        "gauge",
        "Share of the steps at which the importance ratio of a deciding head was outside the clip range.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.clipped_share),
    ),
    Metric(
        "rl_policy_gradient_norm",
        "gauge",
        "Norm of the whole gradient before clipping, mean over the optimiser steps of the update.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.gradient_norm),
    ),
    Metric(
        "rl_policy_loss",
        "gauge",
        "Clipped surrogate loss, summed over the heads, mean over the optimiser steps of the update.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.policy_loss),
    ),
    Metric(
        "rl_value_loss",
        "gauge",
        "Half the mean squared error of the value estimates, mean over the optimiser steps of the update.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.value_loss),
    ),
    Metric(
        "rl_value_explained_variance",
        "gauge",
        "Share of the variance of the returns that the value estimates of the rollout explained.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.explained_variance),
    ),
    Metric(
        "rl_training_updates_total",
        "counter",
        "PPO updates since the start of the run.",
        (),
        scalar(lambda snapshot: snapshot.tamiyo.updates),
    ),
    Metric(
        "rl_training_environment_steps_total",
        "counter",
        "Environment steps since the start of the run, over all parallel environments.",
        (),
        scalar(lambda snapshot: snapshot.environment_steps),
    ),
    Metric(
        "rl_training_episodes_total",
        "counter",
        "Episodes finished since the start of the run, over all parallel environments.",
        (),
        scalar(lambda snapshot: snapshot.episodes),
    ),
    Metric(
        "rl_training_episode_return",
        "gauge",
        "Mean return of the last finished episodes, 100 at most.",
        (),
        scalar(lambda snapshot: snapshot.episode_return),
    ),
    Metric(
        "rl_training_update_duration_seconds",
        "histogram",
        "Time spent optimising, per update; rollouts are counted apart.",
        (),
        histogram(lambda snapshot: snapshot.update_durations),
    ),
    Metric(
        "rl_training_rollout_duration_seconds",
        "histogram",
        "Time spent collecting a rollout, per update.",
        (),
        histogram(lambda snapshot: snapshot.rollout_durations),
    ),
    Metric(
        "rl_training_last_update_timestamp_seconds",
        "gauge",
        "Unix time of the last update.",
        (),
        scalar(lambda snapshot: snapshot.last_update_timestamp),
    ),
)
"""What changes with an update only: rendered once per update and then served from memory."""

LIVE_METRICS: tuple[Metric, ...] = (
    Metric(
        "rl_training_start_timestamp_seconds",
        "gauge",
        "Unix time of the start of the run.",
        (),
        scalar(lambda snapshot: snapshot.start_timestamp),
    ),
    Metric(
        "rl_training_run_state",
        "gauge",
        "1 for the present state of the run, else 0.",
        ("state",),
        run_states,
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
        "rl_exporter_render_duration_seconds",
        "summary",
        (),
        "Time spent rendering /metrics; the count is the number of scrapes answered.",
    ),
)
"""Name, type, labels and help of what the exporter says of itself, without run_id."""


def update_values(snapshot: SanctumSnapshot) -> dict[str, object]:
    """Every value that /metrics shows for the last update, by metric name and then by label values.

    A histogram stands under its three names, with a level more for ``le``.
    """
    values: dict[str, object] = {}
    for metric in UPDATE_METRICS:
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
        tree = tree.setdefault(branch, {})  # type: ignore[assignment]
    tree[leaf] = value
