"""The dashboard Heads: one run, and which of its heads is in trouble."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from rl_dashboards import head_panels, layout, queries, style, verdict_queries
from rl_dashboards.head_panels import NO_RATIO, NOT_YET, WORST
from rl_dashboards.panels import (
    coloured_by_level,
    described,
    instant_query,
    range_query,
    stat_panel,
    state_timeline_panel,
    timeseries_panel,
    with_overrides,
    with_thresholds,
)
from rl_dashboards.queries import RATIO, RUN, head_selector, run_selector
from rl_dashboards.table_panels import alerts_table, heads_table

NO_RUN = "no run in this time range"

TILE_TEXT_SIZE = 22
"""With it the longest word, "▲ deterministic", fits an eighth of a screen of 1600 pixels."""

TILE_POINTS = 1000
"""The number is the last point of the trend. With Grafana's default, one point for each pixel, it would be minutes
old on a long range.
"""


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
        (head_panels.choice_entropy(), 0, 22, 12, 9),
        (head_panels.state_information(), 12, 22, 12, 9),
        (head_panels.actions(), 0, 31, 6, 7),
        (heads_table(), 0, 38, 24, 11),
        (head_panels.normalized_entropy(), 0, 49, 12, 9),
        (head_panels.margin(), 12, 49, 12, 9),
        (head_panels.nats(), 0, 58, 12, 9),
        (head_panels.gradients(), 12, 58, 12, 9),
        (head_panels.importance(), 0, 67, 12, 9),
        (head_panels.state_share(), 12, 67, 12, 9),
        (alerts_table("the selected runs"), 0, 76, 24, 9),
    ]
    about = "Which head of a run is collapsing, and is it real? One tile per head, then the evidence."
    return layout.build_dashboard(layout.HEADS_UID, "RL Heads", about, panels)


def _tile() -> stat.Panel:
    panel = stat_panel(
        "$head",
        "Effective entropy ratio of the head: 1 uniform, 0 deterministic; its colour is that of its level under the "
        "head's own thresholds. Below: the verdict. ▲ collapsed: critical, and the same whatever the head sees. "
        "◆ low: warning likewise. ■ settled: critical, but it decides by the state, which is no failure. Else its "
        "state. 'no choice': masks or operations left it nothing to decide. What to do: the alert's runbook."
        + WORST,
        NO_RATIO,
        range_query(queries.ratio_or_no_choice(), "ratio", "A"),
        instant_query(verdict_queries.verdicts_and_states(), "state", "B"),
        words=[style.NO_CHOICE_MAPPING],
        trend=True,
    )
    panel = coloured_by_level(panel, queries.colours(style.LEVEL_COLOURS))
    panel = panel.decimals(2).max_data_points(TILE_POINTS)
    panel = panel.min(0).max(2)  # twice the ratio's, so that the trend stays below the number
    panel = panel.repeat("head").repeat_direction("h").max_per_row(8)
    panel = panel.orientation(options.VizOrientation.HORIZONTAL)
    panel = panel.text(common.VizTextDisplayOptions().value_size(TILE_TEXT_SIZE))
    return with_overrides(panel, {"state": {"mappings": [style.tile_mapping()]}})


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
        with_thresholds(panel).min(0).max(1).decimals(2),
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
    weakest = f"bottomk(1, {verdict_queries.ratio_that_counts()})"
    panel = stat_panel(
        "Weakest",
        "The head with the lowest effective ratio, coloured by its level. Look at it first. A settled head counts only "
        "where every head has settled.",
        NO_RATIO,
        instant_query(weakest, "{{head}}"),
    )
    panel = coloured_by_level(
        panel, f"({queries.colours(style.LEVEL_COLOURS)}) and on (head) {weakest}"
    ).decimals(3)
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
        "One word from entropy and gradients. dead: no entropy, no gradient, blind to the state. exploding: gradient norm above 5 or "
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
