"""The dashboard Fleet: every run, what pages first."""

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
from rl_dashboards.alert_queries import paging
from rl_dashboards.fleet_table import fleet_table
from rl_dashboards.missing import NO_ANSWER, WATCHDOG, Missing, counted, missing
from rl_dashboards.panels import instant_query, range_query, stat_panel, timeseries_panel, with_overrides
from rl_dashboards.queries import RUN, RUN_KEY, RunPhase, at_the_end, running
from rl_dashboards.ranking import every_run
from rl_dashboards.table_panels import alerts_table
from rl_dashboards.verdict_queries import Verdict, verdicts_of_runs

GROUPS: dict[str, tuple[Sequence[Verdict], str]] = {
    "exploding": ([Verdict.EXPLODING], "the gradients of a head explode"),
    "collapsed": (
        [Verdict.COLLAPSED, Verdict.DEAD],
        "a head has lost its exploration and does the same whatever it sees, or is dead",
    ),
    "low": (
        [Verdict.LOW, Verdict.STARVED],
        "a head is losing its exploration and does the same whatever it sees, or is starved: no operation consults it",
    ),
}
"""Verdicts on the worst head of a run that are counted together, those that need somebody."""

POINTS = 60
"""Steps of the graph over the whole time range. Each evaluates the verdict on every head of every run."""


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    counts = [_pages(), *(_runs_at(word) for word in ("exploding", "collapsed", "low")), *_phase_counts()]
    panels: list[layout.Placed] = [
        (panel, 6 * (place % 4), 3 * (place // 4), 6, 3) for place, panel in enumerate(counts)
    ]
    panels += [
        (fleet_table(), 0, 6, 24, 14),
        (alerts_table("the selected runs"), 0, 20, 24, 8),
        (_verdicts_over_time(), 0, 28, 24, 8),
    ]
    about = "Every run, what pages first. A click on a cell opens Heads for that run and head."
    return layout.build_dashboard(layout.FLEET_UID, "RL Fleet", about, panels, marked=False)


def _with(word: str) -> str:
    """The runs whose worst head has a verdict of a group."""
    codes = sorted(map(int, GROUPS[word][0]))
    of_runs = verdicts_of_runs()
    return f"{of_runs} == {codes[0]}" if len(codes) == 1 else f"({of_runs} >= {codes[0]}) <= {codes[-1]}"


def _runs_at(word: str) -> stat.Panel:
    verdicts, meaning = GROUPS[word]
    text, colour = style.VERDICTS[verdicts[-1] if word == "low" else verdicts[0]]
    panel = stat_panel(
        word.capitalize(),
        f"Runs that are scraped now, by their worst head: {meaning}.",
        NO_ANSWER,
        instant_query(counted(_with(word), verdicts_of_runs())),
        words=[style.MISSING_MAPPING],
    )
    symbol = style.VERDICTS[Verdict.LOW][0][0] if word == "low" else text[0]
    return _alarming(panel, colour, symbol)


def _alarming(panel: stat.Panel, colour: str, symbol: str) -> stat.Panel:
    """Colour a number from one on, with a symbol before it. None is no news, and has no colour."""
    panel = panel.mappings([style.MISSING_MAPPING, style.value_mapping({0: ("0", style.DIM)})])
    panel = panel.thresholds(style.thresholds((None, style.DIM), (1, colour))).decimals(0)
    panel = panel.color_mode(BigValueColorMode.BACKGROUND_SOLID)
    return panel.unit(f"prefix:{symbol} ")


def _pages() -> stat.Panel:
    panel = stat_panel(
        "Runs that page",
        "Runs for which a critical alert fires. Alertmanager may have silenced it, which Prometheus does not know.",
        NO_ANSWER,
        instant_query(f"count({paging()}) or {missing()} or 0 * count({WATCHDOG}) or vector({Missing.RULES})"),
    )
    return _alarming(panel, style.RED, "▲")


def _phase_counts() -> Sequence[stat.Panel]:
    stalled = f'ALERTS{{{RUN}, alertname="RLTrainingStalled", alertstate="firing"}}'
    at_the_end = _last_state("failed|running")
    failed_or_lost = f"({at_the_end} unless on ({RUN_KEY}) {_state_now('!=', 'failed')})"
    ended = f"({_last_state('completed|interrupted')} unless on ({RUN_KEY}) {running()})"
    return (
        _alarming(
            _counted(
                "Failed, lost",
                "Runs that said they failed, within the time range, and runs last seen running, no longer scraped: "
                "killed, evicted, or the network is cut.",
                failed_or_lost,
            ),
            style.RED,
            style.PHASES[RunPhase.FAILED][0][0],
        ),
        _alarming(
            _counted(
                "Stalled",
                "Running, but without an update for long (alert RLTrainingStalled). Look at the log of the run.",
                f"(max by ({RUN_KEY}) ({stalled}) and {running()})",
                f"0 * count({running()}) or vector({Missing.RUNNING})",
            ),
            style.YELLOW,
            style.PHASES[RunPhase.STALLED][0][0],
        ),
        _counted(
            "Running",
            "Runs that are scraped and say that they are running, stalled ones among them.",
            running(),
            f"vector({Missing.RUNNING})",
        ),
        _counted(
            "Ended",
            "Completed or interrupted within the time range.",
            ended,
        ),
    )


def _last_state(names: str) -> str:
    state = f'rl_training_run_state{{{RUN}, state=~"{names}"}}'
    return f"max by ({RUN_KEY}) ({at_the_end(state)} == 1)"


def _state_now(comparison: str, name: str) -> str:
    return f'max by ({RUN_KEY}) (rl_training_run_state{{{RUN}, state{comparison}"{name}"}} == 1)'


_NONE = f"0 * count({every_run()}) or vector({Missing.RUN})"
"""0 where the time range has runs."""


def _counted(title: str, description: str, runs: str, otherwise: str = _NONE) -> stat.Panel:
    counts = instant_query(f"count({runs}) or {otherwise}")
    return stat_panel(
        title, description, NO_ANSWER, counts, words=[style.MISSING_MAPPING], colour=False
    ).decimals(0)


def _verdicts_over_time() -> timeseries.Panel:
    panel = timeseries_panel(
        "Runs by the verdict on their worst head",
        "How many runs were exploding, collapsed, low, settled and healthy. A step up in collapsed across many runs at "
        "once points to a change of code or configuration, not to one run.",
        f"no verdict in this time range: no run, no rules loaded, or {NO_ANSWER}",
        range_query(f'count_values("verdict", {verdicts_of_runs()})', "{{verdict}}"),
    )
    panel = (
        panel.fill_opacity(60).line_width(0).line_interpolation(LineInterpolation.STEP_AFTER).min(0).decimals(0)
    )
    panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A")).max_data_points(POINTS)
    shades = {Verdict.EXPLODING: "dark-red", Verdict.DEAD: "semi-dark-red", Verdict.STARVED: "dark-yellow"}
    looks = {
        str(int(verdict)): {
            "displayName": text,
            "color": {"mode": "fixed", "fixedColor": shades.get(verdict, colour)},
        }
        for verdict, (text, colour) in style.VERDICTS.items()
    }
    return with_overrides(panel.draw_style(GraphDrawStyle.LINE), looks)
