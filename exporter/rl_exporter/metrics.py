"""Every metric of a run. One whose reader yields no value has no sample: not measured is never a number."""

from __future__ import annotations

from rl_exporter.head_metrics import HEAD_METRICS
from rl_exporter.histogram import Histogram
from rl_exporter.samples import Metric, histogram, run_info, run_states, scalar
from rl_exporter.snapshot import SanctumSnapshot

UPDATE_METRICS: tuple[Metric, ...] = (
    *HEAD_METRICS,
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
