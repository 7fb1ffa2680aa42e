"""The dashboard Run: how PPO itself is doing, of one run."""

from __future__ import annotations

import math
from typing import Any

from grafana_foundation_sdk.builders import common, table, timeseries
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode

from rl_dashboards import layout, queries, style, variables
from rl_dashboards.missing import NO_ANSWER, missing
from rl_dashboards.panels import (
    dashed,
    instant_query,
    narrow_timeseries_panel,
    range_query,
    stat_panel,
    table_panel,
    table_query,
    transformation,
    with_overrides,
)
from rl_dashboards.queries import mean_duration, process_metric, run_phase, run_selector

NOT_REPORTED = "not reported by the selected runs, or before the first update"


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    panels: list[layout.Placed] = [
        (_selected(), 0, 0, 12, 3),
        (_episodes(), 12, 0, 12, 3),
        (_info(), 0, 3, 24, 4),
    ]
    lines = _lines()
    for place, panel in enumerate(lines):
        panels.append((panel, 8 * (place % 3), 7 + 7 * (place // 3), 8, 7))
    panels.append((_environment(), 0, 7 + 7 * math.ceil(len(lines) / 3), 24, 8))
    about = "Is PPO itself in order: does it learn, are its steps of a sensible size, how fast is it, what does it do?"
    return layout.build_dashboard(
        layout.RUN_UID, "RL Run", about, panels, one_run=True, more=[variables.environment()]
    )


def _info() -> table.Panel:
    info = queries.latest(lambda read: read(run_selector("rl_training_run_info")))
    names = (
        "run_id",
        "experiment",
        "algorithm",
        "environment",
        "seed",
        "device",
        "world_size",
        "instance",
        "cluster",
        "namespace",
    )
    panel = table_panel(
        "What runs",
        "What the selected runs are, and where they are scraped.",
        "no run in this time range",
        table_query(info),
    ).with_transformation(
        transformation("filterFieldsByName", {"include": {"pattern": f"^({'|'.join(names)})$"}})
    )
    places = {name: place for place, name in enumerate(names)}
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    return with_overrides(
        panel,
        {
            "run_id": {"displayName": "run", "custom.width": 150},
            "instance": {"custom.width": 150},
            "world_size": {"displayName": "processes"},
        },
    )


def _selected() -> Any:
    return stat_panel(
        "State",
        "What the run is doing. lost: last seen running, no longer scraped.",
        NO_ANSWER,
        instant_query(f"max({run_phase()}) or {missing(of_now=False)} < -3"),
        words=[style.PHASE_MAPPING, style.MISSING_MAPPING],
    )


def _episodes() -> Any:
    episodes = queries.latest(lambda read: f"max({read(run_selector('rl_training_episodes_total'))})")
    panel = stat_panel(
        "Episodes",
        "Episodes finished since the start of the run.",
        NO_ANSWER,
        instant_query(f"{episodes} or {missing(of_now=False)} < -3"),
        words=[style.MISSING_MAPPING],
        colour=False,
    )
    return panel.decimals(0).unit("none")


KL_REFERENCE, CLIP_REFERENCE = 0.02, 0.3
"""Above these the steps of PPO are usually too large. Lines to compare with: no rule holds them."""


def _gauge(
    title: str,
    description: str,
    metric: str,
    unit: str = "none",
    decimals: int = 3,
    reference: float | None = None,
) -> timeseries.Panel:
    target = range_query(f"max by (run_id) ({run_selector(metric)})", "{{run_id}}")
    panel = narrow_timeseries_panel(title, description, NOT_REPORTED, target).unit(unit).decimals(decimals)
    if reference is None:
        return panel
    line = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    steps = style.thresholds((None, style.TRANSPARENT), (reference, style.DIM))
    return panel.thresholds(steps).thresholds_style(line).axis_soft_min(0).axis_soft_max(reference)


def _returns() -> timeseries.Panel:
    panel = _gauge(
        "Return (best so far dashed)",
        "Mean return of the last 100 finished episodes; dashed, the best so far. It should rise, then hold; a fall "
        "together with falling entropy is a collapse that costs.",
        "rl_training_episode_return",
        decimals=2,
    )
    best = f"max by (run_id) ({run_selector('rl_training_episode_return_max')})"
    return dashed(panel.with_target(range_query(best, "{{run_id}} best", "B")), "B", style.DIM)


_SAME = f"{queries.TARGET_KEY}, pod, slurm_job"
"""Labels that all series of one run share: a legend of them would hide those that tell lines apart."""


def _environment() -> timeseries.Panel:
    """One panel for each number that the environments report, whatever its labels are."""
    reported = queries.environment_selector("($environment_metric)")
    panel = narrow_timeseries_panel(
        "Environment: $environment_metric",
        "What the environments report of themselves: the mean over the last 100 episodes that reported it, one line "
        'for each run and each of its labels. Names come from info["metrics"] of the environment.',
        "the environments of the selected runs report nothing, or no episode has ended yet",
        range_query(f"max without ({_SAME}) ({reported})", "__auto"),
    )
    # The name stands for a number without labels; Grafana would show the query.
    panel = panel.display_name("$environment_metric ${__field.labels.__values}").decimals(3)
    return panel.repeat("environment_metric").repeat_direction("h").max_per_row(3)


def _lines() -> list[timeseries.Panel]:
    return [*_learning(), *_steps(), *_speed()]


def _learning() -> list[timeseries.Panel]:
    return [
        _returns(),
        _gauge(
            "Episode length",
            "Mean steps of the last 100 finished episodes. Longer is better where an environment ends an episode for "
            "a mistake, and shorter where it ends with success.",
            "rl_training_episode_length_steps",
            decimals=1,
        ),
        _gauge(
            "Policy loss",
            "Clipped surrogate, summed over the heads. Its size says little; jumps and NaN do.",
            "rl_policy_loss",
        ),
        _gauge(
            "Value loss",
            "Half the mean squared error of the value estimates. It should fall, or follow a rising "
            "return; a lasting rise: lower the learning rate.",
            "rl_value_loss",
        ),
        _gauge(
            "Explained variance",
            "Share of the variance of the returns that the critic explains: towards 1 is good, "
            "at or below 0 it is no better than a constant.",
            "rl_value_explained_variance",
            decimals=2,
        ),
    ]


def _steps() -> list[timeseries.Panel]:
    base = range_query(
        f"max by (run_id) ({run_selector('rl_policy_entropy_coefficient')})", "{{run_id}} entropy", "A"
    )
    rate = range_query(
        f"max by (run_id) ({run_selector('rl_training_learning_rate')})", "{{run_id}} learning rate", "B"
    )
    return [
        _gauge(
            "KL divergence",
            "How far an update moves the policy. About 0.01 is usual; far above, steps are too "
            "large (lower the learning rate); near 0, nothing is learned. Dashed: twice what is usual.",
            "rl_policy_kl_divergence_nats",
            "nats",
            4,
            KL_REFERENCE,
        ),
        _gauge(
            "Clipped steps",
            "Share of the steps outside the clip range. A few to thirty percent is usual; above, "
            "updates fight the clip. Dashed: thirty percent.",
            "rl_policy_clipped_steps_ratio",
            "percentunit",
            1,
            CLIP_REFERENCE,
        ),
        _gauge(
            "Gradient norm",
            "Norm of the whole gradient before clipping. Spikes come before instability; heads "
            "are told apart in Heads.",
            "rl_policy_gradient_norm",
        ),
        narrow_timeseries_panel(
            "Coefficient, learning rate",
            "Base coefficient of the entropy bonus, which each head multiplies by its own factor, and the step size "
            "of the optimiser. Both fall to 0 at the end of a run with linear schedules.",
            NOT_REPORTED,
            base,
            rate,
        ).decimals(5),
    ]


def _speed() -> list[timeseries.Panel]:
    rollout = range_query(mean_duration("rl_training_rollout_duration_seconds"), "{{run_id}} rollout", "A")
    update = range_query(mean_duration("rl_training_update_duration_seconds"), "{{run_id}} update", "B")
    steps = run_selector("rl_training_environment_steps_total")
    rate = range_query(f"sum by (run_id) (rate({steps}[$__rate_interval]))", "{{run_id}}")
    cpu = range_query(process_metric("rate(process_cpu_seconds_total[$__rate_interval])"), "{{run_id}}")
    memory = range_query(process_metric("process_resident_memory_bytes"), "{{run_id}}")
    return [
        narrow_timeseries_panel(
            "Rollout and update time",
            "Mean time per update spent collecting and optimising. A lasting rise: the "
            "environment or the machine has become slow.",
            NOT_REPORTED,
            rollout,
            update,
        ).unit("s"),
        narrow_timeseries_panel(
            "Environment steps per second",
            "Over all parallel environments. Zero: stalled or ended.",
            NOT_REPORTED,
            rate,
        )
        .unit("none")
        .decimals(0)
        .min(0),
        narrow_timeseries_panel(
            "CPU of the trainer",
            "Cores in use by the training process.",
            "no process metrics: the exporter runs where /proc is not available",
            cpu,
        )
        .decimals(2)
        .min(0),
        narrow_timeseries_panel(
            "Memory of the trainer",
            "Resident memory. A steady rise is a leak.",
            "no process metrics: the exporter runs where /proc is not available",
            memory,
        )
        .unit("bytes")
        .min(0),
    ]
