"""The dashboard Heads: one run, and which of its heads is in trouble."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

from rl_dashboards import controller_panels, head_panels, layout, queries, style, verdict_queries
from rl_dashboards.alert_queries import notifying, paging
from rl_dashboards.head_panels import NO_RATIO, NOT_YET
from rl_dashboards.missing import NO_ANSWER, WATCHDOG, Missing, missing, ratio_or_why_not
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
from rl_dashboards.queries import HEAD, LEVEL, RUN, head_selector, in_order, run_selector
from rl_dashboards.table_panels import alerts_table, head_tables
from rl_exporter.histogram import RATIO_BOUNDS

TILE_TEXT_SIZE = 17
TILES_IN_A_ROW = 4
"""With four in a row the longest word, "◈ deterministic", fits a screen of 1280 pixels beside Grafana's navigation."""

TILE_POINTS = 1000
"""The number is the last point of the trend. With Grafana's default, one point for each pixel, it would be minutes
old on a long range.
"""


TIMELINE_POINTS = 120
"""Steps of the verdicts over time, the dearest query of the dashboard."""


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    verdicts, entropy, decisions = head_tables()
    panels: list[layout.Placed] = [
        (_tile(), 0, 0, 24, 3),
        (_phase(), 0, 3, 6, 3),
        (_pages(), 6, 3, 6, 3),
        (_weakest(), 12, 3, 6, 3),
        (_age(), 18, 3, 6, 3),
        (_total_beside_lowest(), 0, 6, 18, 8),
        (_updates(), 18, 6, 6, 4),
        (_total(), 18, 10, 6, 4),
        (_timeline(), 0, 14, 24, 8),
        (head_panels.choice_entropy(), 0, 22, 12, 9),
        (head_panels.state_information(), 12, 22, 12, 9),
        (head_panels.actions(), 0, 31, 24, 7),
        (_levels(), 0, 38, 12, 8),
        (_heat_map(), 12, 38, 12, 8),
        (verdicts, 0, 46, 24, 11),
        (alerts_table("the run"), 0, 57, 24, 7),
        (head_panels.normalized_entropy(), 0, 64, 12, 9),
        (head_panels.margin(), 12, 64, 12, 9),
        (head_panels.nats(), 0, 73, 12, 9),
        (head_panels.gradients(), 12, 73, 12, 9),
        (head_panels.importance(), 0, 82, 12, 9),
        (head_panels.state_share(), 12, 82, 12, 9),
        (entropy, 0, 91, 24, 11),
        (decisions, 0, 102, 24, 11),
        *controller_panels.row(113),
    ]
    about = "Which head of a run is collapsing, and is it real? One tile per head, then the evidence."
    return layout.build_dashboard(layout.HEADS_UID, "RL Heads", about, panels, one_run=True)


def _tile() -> stat.Panel:
    panel = stat_panel(
        "$head",
        "Effective entropy ratio of the head: 1 uniform, 0 deterministic; its colour is that of its level under the "
        "head's own thresholds. Beside it the verdict. ▲ collapsed: critical, and the same whatever the head sees. "
        "◆ low: warning likewise. ✱ exploding, ✖ dead: by its gradients. ▽ starved: no operation consults it. "
        "■ settled: critical, but it decides by the state, which is no failure. Else its state, in the colour of the "
        "verdict. ◇ no choice: masks or operations left it nothing to decide. Grey: the run is over, or nothing is "
        "known. What to do: the alert's runbook.",
        NO_RATIO,
        range_query(ratio_or_why_not(), "ratio", "A"),
        instant_query(verdict_queries.verdicts_and_states(verdict_queries.ENDED), "state", "B"),
        words=[style.RATIO_MAPPING],
        trend=True,
    )
    panel = coloured_by_level(panel, queries.colours(style.LEVEL_COLOURS, style.DIM))
    panel = panel.decimals(2).max_data_points(TILE_POINTS)
    panel = panel.min(0).max(2)  # twice the ratio's, so that the trend stays below the number
    panel = panel.repeat("head").repeat_direction("h").max_per_row(TILES_IN_A_ROW)
    panel = panel.orientation(options.VizOrientation.VERTICAL)
    panel = panel.text(common.VizTextDisplayOptions().value_size(TILE_TEXT_SIZE))
    return with_overrides(panel, {"state": {"mappings": [style.tile_mapping()]}})


def _total_beside_lowest() -> timeseries.Panel:
    ratio = f"max by (head) (head:rl_policy_effective_entropy:ratio{{{RUN}}})"
    most = f"max by (head) ({run_selector('rl_policy_head_entropy_max_nats')})"
    panel = timeseries_panel(
        "All heads together beside the lowest",
        "Effective ratio of all heads together, each weighed by its maximum entropy ln n as in the total, beside that of "
        "the lowest, settled or not. Both are over every head of the run, and neither line can cross the other. A gap "
        "says: the total looks fine, one head does not. The total alone cannot show a collapse. Dashed: the heads' thresholds.",
        NO_RATIO,
        range_query(f"sum({ratio} * {most}) / sum({most} and {ratio})", "all heads together", "A"),
        range_query(f"min({ratio})", "lowest head", "B"),
    )
    return with_overrides(
        with_thresholds(panel).min(0).max(1).decimals(2),
        {
            "all heads together": {"color": {"mode": "fixed", "fixedColor": style.BLUE}},
            "lowest head": {
                "color": {"mode": "fixed", "fixedColor": "purple"},
                "custom.lineWidth": 3,
            },
        },
    )


def _phase() -> stat.Panel:
    return stat_panel(
        "Run",
        "What the run is doing. An ended run shows its last values within the time range. lost: last seen running, "
        "no longer scraped. stalled: RLTrainingStalled fires.",
        NO_ANSWER,
        instant_query(f"max({queries.run_phase()}) or {missing(of_now=False)} < -3", "run"),
        words=[style.PHASE_MAPPING, style.MISSING_MAPPING],
    )


def _age() -> stat.Panel:
    panel = stat_panel(
        "Last update",
        "Time since the last update, or since the start before the first one: the age of everything shown here. "
        "Of a running run it should stay within a few times its update time.",
        NO_ANSWER,
        instant_query(f"min({queries.seconds_since_update()}) or {missing(of_now=False)} < -3", "age"),
        words=[style.MISSING_MAPPING],
        colour=False,
    )
    return panel.unit("s").decimals(0)


def _updates() -> stat.Panel:
    updates = queries.latest(lambda read: f"max({read(run_selector('rl_training_updates_total'))})")
    resumed = queries.latest(lambda read: f"max({read(run_selector('rl_training_resumed_updates'))} > 0)")
    panel = stat_panel(
        "Updates",
        "PPO updates since the start of the run, and where it was resumed.",
        NO_ANSWER,
        instant_query(f"{updates} or {missing(of_now=False)} < -3", "updates"),
        words=[style.MISSING_MAPPING],
        colour=False,
    )
    return panel.with_target(instant_query(resumed, "resumed at", "B")).unit("none").decimals(0)


def _weakest() -> stat.Panel:
    weakest = f"bottomk(1, {verdict_queries.ratio_that_counts()})"
    panel = stat_panel(
        "Weakest head",
        "The head with the lowest effective ratio, coloured by its level. Look at it first. A settled head counts only "
        "where every head has settled.",
        NO_ANSWER,
        instant_query(
            f'{weakest} or on () label_replace({missing(of_now=False)}, "head", "-", "", "")', "{{head}}"
        ),
        words=[style.MISSING_MAPPING],
    )
    colours = f"({queries.colours(style.LEVEL_COLOURS, style.DIM)}) and on (head) {weakest}"
    panel = coloured_by_level(panel, colours).decimals(3)
    panel = panel.text(common.VizTextDisplayOptions().title_size(16).value_size(18))
    return panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME)


def _total() -> stat.Panel:
    total = queries.latest(lambda read: f"min({read(run_selector('rl_policy_entropy_nats'))})")
    panel = stat_panel(
        "Total entropy",
        "Sum of the entropies of all heads. It can look fine while a head has collapsed.",
        NOT_YET,
        instant_query(f"{total} or {missing(of_now=False)}", "total"),
        words=[style.MISSING_MAPPING],
        colour=False,
    )
    return panel.unit("nats").decimals(3)


def _pages() -> stat.Panel:
    no_page = f"0 * count({WATCHDOG}) or vector({Missing.RULES})"
    notified = f"count({notifying()})"
    panel = stat_panel(
        "Pages",
        "Critical alerts of the run that fire now, red; without any, the number of other alerts that notify, without a "
        "colour. The table below lists them. Alertmanager may have silenced them, which Prometheus does not know.",
        NO_ANSWER,
        instant_query(f"sum({paging()}) or {missing(of_now=False)} or {no_page}", "pages", "A"),
        instant_query(f"{notified} - (sum({paging()}) or vector(0)) > 0", "more", "B"),
        words=[style.MISSING_MAPPING, style.value_mapping({0: ("no page", style.DIM)})],
    )
    panel = panel.thresholds(style.thresholds((None, style.DIM), (1, style.RED))).decimals(0)
    more: dict[str, object] = {"unit": "suffix: more", "color": {"mode": "fixed", "fixedColor": style.DIM}}
    return with_overrides(panel.unit("prefix:▲ "), {"more": more})


def _timeline() -> statetimeline.Panel:
    panel = state_timeline_panel(
        "Verdict and state of each head",
        "The word of the tile over time, in the colour of the verdict. dead: no entropy, no gradient, blind to the "
        "state. exploding: gradient norm above 5 or not finite. deterministic: ratio below 0.1. confused: still close "
        "to uniform (normal early on). no choice: it had nothing to decide. unsettled: none of these.",
        NOT_YET,
        range_query(_or_nothing_yet(in_order(verdict_queries.verdicts_and_states_now())), "{{head}}"),
    )
    panel = panel.max_data_points(TIMELINE_POINTS)
    return panel.mappings([style.tile_mapping(), style.NOTHING_YET_MAPPING])


def _levels() -> statetimeline.Panel:
    panel = state_timeline_panel(
        "Level of each head",
        "Effective ratio against the head's own thresholds: healthy, warning, critical. A critical head that decides "
        "by the state is settled, and no failure: the verdict above says which. No choice: no ratio, no level.",
        NO_RATIO,
        range_query(_or_nothing_yet(in_order(_level_or_no_choice())), "{{head}}"),
    )
    words = style.value_mapping({3: style.NO_CHOICE})
    return panel.mappings([style.LEVEL_MAPPING, words, style.NOTHING_YET_MAPPING])


def _level_or_no_choice() -> str:
    return f"max by (head) ({LEVEL}) or 3 + 0 * max by (head) ({queries.CHOICE_SHARE} == 0)"


def _or_nothing_yet(expression: str) -> str:
    """One row ``no head`` at -1 where the time range has none: a timeline without series would show an error."""
    absent = f"-absent_over_time({head_selector('rl_policy_head_state')}[$__range] @ end())"
    return f'{expression} or label_replace({absent}, "head", "no head", "", "")'


BOUNDS = (*(f"{bound:g}" for bound in RATIO_BOUNDS), "1")
"""Upper ends of the rows: the buckets of the histogram, the last of which has none."""


def _updates_between(low: str, high: str) -> str:
    """How many updates the head had whose ratio was in a bucket, of the head that had the most.

    Not of all heads: beside seven healthy heads, a collapsed one would have the palest cell.
    """

    def up_to(bound: str) -> str:
        end = "+Inf" if bound == BOUNDS[-1] else bound
        bucket = f'rl_policy_head_effective_entropy_ratio_bucket{{{HEAD}, le="{end}"}}'
        return f"max by (head) (increase({bucket}[$__rate_interval]))"

    return f"max({up_to(high)})" if low == "0" else f"max({up_to(high)} - {up_to(low)})"


def _heat_map() -> heatmap.Panel:
    lows = ("0", *BOUNDS[:-1])
    targets = [
        range_query(_updates_between(low, high), f"{low} to {high}", ref)
        for ref, low, high in zip("ABCDEF", lows, BOUNDS, strict=True)
    ]
    panel = described(
        heatmap.Panel(),
        "Every update, by effective ratio",
        "All updates, also those between two scrapes, by the ratio that they had; of the selected heads, the one that "
        "had the most in a row. A bright cell in the lowest rows: in this time a head did nearly every update without "
        "exploration. Choose one head above to see it alone.",
        "no update in this time range",
        targets,
    )
    return (
        panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(32))
        .y_axis(heatmap.YAxisConfig().unit("none").decimals(2))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
        .mode(options.TooltipDisplayMode.SINGLE)
    )
