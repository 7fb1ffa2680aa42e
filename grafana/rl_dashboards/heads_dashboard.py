"""The dashboard Heads: one run, and which of its heads is in trouble."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from rl_dashboards import layout, queries, style
from rl_dashboards.panels import (
    described,
    instant_query,
    range_query,
    stat_panel,
    state_timeline_panel,
    timeseries_panel,
    with_overrides,
    with_threshold_bands,
)
from rl_dashboards.queries import RATIO, RUN, head_selector, run_selector
from rl_dashboards.table_panels import alerts_table, heads_table

NO_RUN = "no run in this time range"
NOT_YET = "not measured yet"
NO_RATIO = "no ratio yet, or no rules loaded"
"""Shown before the first update, or if Prometheus has no recording rules; Pipeline tells the two apart."""

TILE_TEXT_SIZE = 22
"""With it the longest word, "▲ deterministic", fits an eighth of a screen of 1600 pixels."""

TILE_POINTS = 1000
"""The number is the last point of the trend. With Grafana's default, one point for each pixel, it would be minutes
old on a long range.
"""

WORST = " With several runs selected, the worst of them."


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    panels: list[layout.Placed] = [
        (_tile(), 0, 0, 3, 5),
        (_total_beside_weakest(), 0, 5, 15, 8),
        (_phase(), 15, 5, 3, 4),
        (_age(), 18, 5, 3, 4),
        (_updates(), 21, 5, 3, 4),
        (_weakest(), 15, 9, 3, 4),
        (_total(), 18, 9, 3, 4),
        (_alert_count(), 21, 9, 3, 4),
        (_timeline(), 0, 13, 12, 9),
        (_heat_map(), 12, 13, 12, 9),
        (_choice_entropy(), 0, 22, 12, 9),
        (_normalized_entropy(), 12, 22, 12, 9),
        (heads_table(), 0, 31, 24, 11),
        (_nats(), 0, 42, 12, 9),
        (_gradients(), 12, 42, 12, 9),
        (_importance(), 0, 51, 12, 9),
        (alerts_table("the selected runs"), 12, 51, 12, 9),
    ]
    about = "Which head of a run is collapsing, and is it real? One tile per head, then the evidence."
    return layout.build_dashboard(layout.HEADS_UID, "RL Heads", about, panels)


def _tile() -> stat.Panel:
    panel = stat_panel(
        "$head",
        "Effective entropy ratio of the head: 1 uniform, 0 deterministic. Above 0.5 healthy; at or below 0.5 "
        "warning; at or below 0.25 critical: it hardly explores. Below: its state, with the sign of its level (● "
        "healthy, ◆ warning, ▲ critical or an alarm of its own). 'no choice': masks or operations left it nothing to "
        "decide, so nothing can be said. What to do: the alert's runbook." + WORST,
        NO_RATIO,
        range_query(queries.ratio_or_no_choice(), "ratio", "A"),
        instant_query(queries.verdicts(), "state", "B"),
        words=[style.NO_CHOICE_MAPPING],
        trend=True,
    )
    panel = panel.decimals(2).thresholds(style.level_thresholds()).max_data_points(TILE_POINTS)
    panel = panel.min(0).max(2)  # twice the ratio's, so that the trend stays below the number
    panel = panel.repeat("head").repeat_direction("h").max_per_row(8)
    panel = panel.orientation(options.VizOrientation.HORIZONTAL)
    panel = panel.text(common.VizTextDisplayOptions().value_size(TILE_TEXT_SIZE))
    return with_overrides(panel, {"state": {"mappings": [style.verdict_mapping()]}})


def _total_beside_weakest() -> timeseries.Panel:
    total = f"{run_selector('rl_policy_entropy_nats')} / sum without (head) ({run_selector('rl_policy_head_entropy_max_nats')})"
    panel = timeseries_panel(
        "Total beside the weakest head",
        "The sum over all heads, as a share of its maximum, beside the lowest effective ratio. A gap says: the "
        "total looks fine, one head does not. The total alone cannot show a collapse." + WORST,
        NO_RATIO,
        range_query(f"min({total})", "all heads together", "A"),
        range_query(f"min({RATIO})", "weakest head", "B"),
    )
    return with_overrides(
        with_threshold_bands(panel, style.level_bands()).min(0).max(1).decimals(2),
        {
            "all heads together": {"color": {"mode": "fixed", "fixedColor": style.BLUE}},
            "weakest head": {
                "color": {"mode": "fixed", "fixedColor": "orange"},
                "custom.lineWidth": 3,
            },
        },
    )


def _phase() -> stat.Panel:
    return stat_panel(
        "Run",
        "What the run is doing. An ended run shows its last values within the time range. lost: last seen running, "
        "no longer scraped. stalled: RLTrainingStalled fires. With several runs, the worst.",
        NO_RUN,
        instant_query(f"max({queries.run_phase()})", "run"),
        words=[style.PHASE_MAPPING],
    )


def _age() -> stat.Panel:
    panel = stat_panel(
        "Last update",
        "Time since the last update, or since the start before the first one: the age of everything shown here. "
        "Of a running run it should stay within a few times its update time.",
        NO_RUN,
        instant_query(f"min({queries.seconds_since_update()})", "age"),
        colour=False,
    )
    return panel.unit("s").decimals(0)


def _updates() -> stat.Panel:
    panel = stat_panel(
        "Updates",
        "PPO updates since the start of the run; with several runs selected, of the one that is furthest.",
        NO_RUN,
        instant_query(
            queries.latest(lambda read: f"max({read(run_selector('rl_training_updates_total'))})"), "updates"
        ),
        colour=False,
    )
    return panel.unit("none").decimals(0)


def _weakest() -> stat.Panel:
    panel = stat_panel(
        "Weakest",
        "The head with the lowest effective ratio, coloured by its level. Look at it first.",
        NO_RATIO,
        instant_query(f"bottomk(1, {queries.latest_ratio(RATIO)})", "{{head}}"),
    )
    panel = panel.thresholds(style.level_thresholds()).decimals(3)
    return panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME)


def _total() -> stat.Panel:
    panel = stat_panel(
        "Total entropy",
        "Sum of the entropies of all heads. It can look fine while a head has collapsed.",
        NOT_YET,
        instant_query(
            queries.latest(lambda read: f"min({read(run_selector('rl_policy_entropy_nats'))})"), "total"
        ),
        colour=False,
    )
    return panel.unit("nats").decimals(3)


def _alert_count() -> stat.Panel:
    panel = stat_panel(
        "Alerts firing",
        "Alerts of the selected runs that fire now; the table at the end lists them.",
        "0",
        instant_query(f"count({queries.firing_seconds(RUN)}) or vector(0)", "alerts"),
    )
    return panel.thresholds(style.bad_above(1)).decimals(0)


def _timeline() -> statetimeline.Panel:
    panel = state_timeline_panel(
        "State of each head",
        "One word from entropy and gradients. dead: no entropy and no gradient. exploding: gradient norm above 5 or "
        "not finite. deterministic: ratio below 0.1. confused: still close to uniform (normal early on). no choice: "
        "it had nothing to decide. unsettled: none of these." + WORST,
        NOT_YET,
        range_query(queries.head_state_codes_or_none(), "{{head}}"),
    )
    return panel.mappings([style.STATE_MAPPING, style.NOTHING_YET_MAPPING])


def _heat_map() -> heatmap.Panel:
    buckets = head_selector("rl_policy_head_effective_entropy_ratio_bucket")
    target = range_query(f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}")
    target = target.format(PromQueryFormat.HEATMAP)
    return (
        described(
            heatmap.Panel(),
            "Every update, by effective ratio",
            "All updates of the selected heads, also those between two scrapes, by the ratio that they had. Weight "
            "in the lowest rows is exploration lost. Choose one head above to see it alone.",
            "no update in this time range",
            [target],
        )
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
        .y_axis(heatmap.YAxisConfig().unit("none").decimals(2))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
        .mode(options.TooltipDisplayMode.SINGLE)
    )  # fmt: skip


def _ratio_panel(title: str, description: str, expression: str) -> timeseries.Panel:
    panel = timeseries_panel(
        title, description + WORST, NO_RATIO, range_query(expression, "{{head}}"), legend=("lastNotNull", "min")
    )
    return with_threshold_bands(panel, style.level_bands()).min(0).max(1).decimals(3)


def _choice_entropy() -> timeseries.Panel:
    return _ratio_panel(
        "Choice entropy (where the head decides)",
        "Mean entropy relative to ln(valid choices), over the steps at which the head decided something: the "
        "verdict comes from here. At or below 0.5 warning, at or below 0.25 critical. No line: no choice.",
        f"min by (head) ({head_selector('rl_policy_head_choice_entropy_ratio')} or {RATIO})",
    )


def _normalized_entropy() -> timeseries.Panel:
    return _ratio_panel(
        "Normalized entropy (over all steps)",
        "Entropy divided by its maximum ln(n), over every step. It reads low where masks leave little choice "
        "(dilution), and can read high while every real decision is deterministic: compare with choice entropy.",
        f"min by (head) ({head_selector('rl_policy_head_entropy_normalized_ratio')})",
    )


def _nats() -> timeseries.Panel:
    panel = timeseries_panel(
        "Entropy in nats (maximum dashed)",
        "Raw mean entropy of each head; dashed, the entropy of a uniform choice, ln(n). Heads differ in n, so compare "
        "ratios, not nats." + WORST,
        NOT_YET,
        range_query(f"min by (head) ({head_selector('rl_policy_head_entropy_nats')})", "{{head}}", "A"),
        range_query(f"max by (head) ({head_selector('rl_policy_head_entropy_max_nats')})", "{{head}} max", "B"),
    )
    panel = panel.unit("nats").decimals(3).min(0)
    dashed: dict[str, object] = {
        "custom.lineStyle": {"fill": "dash", "dash": [8, 8]},
        "custom.lineWidth": 1,
        "color": {"mode": "fixed", "fixedColor": style.DIM},
        "custom.hideFrom": {"legend": True, "tooltip": True, "viz": False},
    }
    return panel.override_by_query("B", [DynamicConfigValue(name, value) for name, value in dashed.items()])


def _gradients() -> timeseries.Panel:
    panel = timeseries_panel(
        "Gradient norm of each head",
        "Norm of the head's own parameters' gradient before clipping, mean over the update. Below 0.01 the head learns "
        "nothing; above 5 it explodes. Below 0.1 entropy and below 0.01 gradient: dead, nothing pulls it back.",
        "no gradients reported: the training loop does not pass gradient norms",
        range_query(f"max by (head) ({head_selector('rl_policy_head_gradient_norm')})", "{{head}}"),
    )
    scale = common.ScaleDistributionConfig().type(options.ScaleDistribution.LOG).log(10)
    return with_threshold_bands(panel, style.gradient_bands()).scale_distribution(scale).decimals(3)


def _importance() -> timeseries.Panel:
    panel = timeseries_panel(
        "Largest importance ratio of each head",
        "Largest probability ratio between the updated policy and the one that acted, at a choice step. Far above "
        "1 + clip range: single steps move this head much; lower the learning rate or the number of epochs.",
        "no importance ratios reported",
        range_query(f"max by (head) ({head_selector('rl_policy_head_importance_ratio_max')})", "{{head}}"),
    )
    return panel.decimals(2)
