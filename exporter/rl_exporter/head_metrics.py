"""The metrics of a policy's heads."""

from __future__ import annotations

from rl_exporter.samples import (
    Metric,
    conditions,
    declared,
    effective_histograms,
    head_states,
    low_streaks,
    nonfinite_values,
    per_head,
    unmeasured_updates,
)

HEAD_METRICS: tuple[Metric, ...] = (
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
        "rl_policy_head_condition_since_timestamp_seconds",
        "gauge",
        "Unix time since which the head has been in the condition; absent before the third update in it.",
        ("head", "condition"),
        conditions,
    ),
    Metric(
        "rl_policy_head_nonfinite_values_total",
        "counter",
        "Steps whose logits at valid actions held NaN, else infinity, and gradient norms that were not finite.",
        ("head", "kind"),
        nonfinite_values,
    ),
)
"""One series a head and more; they change with an update only."""
