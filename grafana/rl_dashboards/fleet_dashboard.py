"""The dashboard Fleet: every run, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    GraphDrawStyle,
    LineInterpolation,
    StackingMode,
)

from rl_dashboards import layout, style
from rl_dashboards.fleet_table import fleet_table
from rl_dashboards.panels import instant_query, range_query, stat_panel, timeseries_panel, with_overrides
from rl_dashboards.queries import RUN_KEY, RunPhase, run_phase
from rl_dashboards.table_panels import alerts_table
from rl_dashboards.verdict_queries import Verdict, verdicts_now

RULES_MISSING = "no run, or no rules loaded"

WORST_FIRST = sorted(Verdict, reverse=True)
MEANINGS = {
    Verdict.COLLAPSED: "it has lost its exploration and does the same whatever it sees",
    Verdict.LOW: "it is losing its exploration and does the same whatever it sees",
    Verdict.SETTLED: "it no longer explores, but decides by the state, which is no failure",
    Verdict.HEALTHY: "it explores, or has been low for fewer than three updates",
}


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    counts = [*(_runs_at(verdict) for verdict in WORST_FIRST), *_phase_counts()]
    widths = [3] * (len(counts) - 3) + [2, 2, 2]
    panels: list[layout.Placed] = [
        (panel, sum(widths[:place]), 0, widths[place], 4) for place, panel in enumerate(counts)
    ]
    panels += [
        (fleet_table(), 0, 4, 24, 14),
        (_verdicts_over_time(), 0, 18, 12, 8),
        (alerts_table("the selected runs"), 12, 18, 12, 8),
    ]
    about = "Every run, worst head first. A click on a cell opens Heads for that run and head."
    return layout.build_dashboard(layout.FLEET_UID, "RL Fleet", about, panels, alerts_marked=False)


def _runs_with(verdict: Verdict) -> str:
    return f"count({verdicts_now(RUN_KEY)} == {int(verdict)}) or vector(0)"


def _runs_at(verdict: Verdict) -> stat.Panel:
    word, colour = style.VERDICTS[verdict]
    panel = stat_panel(
        word,
        f"Runs that are scraped now, by their worst head: {MEANINGS[verdict]}.",
        RULES_MISSING,
        instant_query(_runs_with(verdict)),
    )
    failed = verdict in {Verdict.COLLAPSED, Verdict.LOW}
    return panel.thresholds(_from_one(colour)).decimals(0) if failed else _uncoloured(panel)


def _uncoloured(panel: stat.Panel) -> stat.Panel:
    """Remove the colour of a number that is neither good nor bad."""
    return panel.color_mode(BigValueColorMode.NONE).decimals(0)


def _from_one(colour: str) -> Any:
    return style.thresholds((None, style.GREEN), (1, colour))


def _phase_counts() -> Sequence[stat.Panel]:
    meanings = {
        RunPhase.RUNNING: "Runs that are scraped and say that they are running.",
        RunPhase.STALLED: "Running, but without an update for long (alert RLTrainingStalled). Look at its log.",
        RunPhase.FAILED: "Runs that said they failed, within the time range. Their log says why.",
        RunPhase.LOST: "Last seen running, no longer scraped: killed, evicted, or the network is cut.",
    }
    return [_count_of(status, meaning) for status, meaning in meanings.items()] + [_ended()]


def _count_of(status: RunPhase, meaning: str) -> stat.Panel:
    word, colour = style.PHASES[status]
    counted = instant_query(f"count({run_phase()} == {int(status)}) or vector(0)")
    panel = stat_panel(word, meaning, "0", counted)
    return _uncoloured(panel) if status is RunPhase.RUNNING else panel.thresholds(_from_one(colour)).decimals(0)


def _ended() -> stat.Panel:
    status = run_phase()
    counted = instant_query(
        f"count({status} == {int(RunPhase.COMPLETED)} or {status} == {int(RunPhase.INTERRUPTED)}) or vector(0)"
    )
    return stat_panel(
        "■ ended", "Completed or interrupted within the time range.", "0", counted, colour=False
    ).decimals(0)


def _verdicts_over_time() -> timeseries.Panel:
    targets = [
        range_query(_runs_with(verdict), verdict.name.lower(), ref)
        for ref, verdict in zip("ABCD", WORST_FIRST, strict=True)
    ]
    panel = timeseries_panel(
        "Runs by the verdict on their worst head",
        "How many runs were collapsed, low, settled and healthy. A step up in collapsed across many runs at once points "
        "to a change of code or configuration, not to one run.",
        RULES_MISSING,
        *targets,
    )
    panel = (
        panel.fill_opacity(60).line_width(0).line_interpolation(LineInterpolation.STEP_AFTER).min(0).decimals(0)
    )
    panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    colours = {
        verdict.name.lower(): {"color": {"mode": "fixed", "fixedColor": colour}}
        for verdict, (_, colour) in style.VERDICTS.items()
    }
    return with_overrides(panel.draw_style(GraphDrawStyle.LINE), colours)
