"""The dashboard Pipeline: is the monitoring itself all right? Only then does silence mean something."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import stat, table

from rl_dashboards import layout, style, variables
from rl_dashboards.missing import NO_ANSWER, WATCHDOG
from rl_dashboards.panels import (
    instant_query,
    stat_panel,
    table_panel,
    table_query,
    transformation,
    with_overrides,
)
from rl_dashboards.pipeline_lines import NO_PROMETHEUS, NO_TARGET, RULES, TRAINERS, lines
from rl_dashboards.table_panels import alerts_table

SAMPLES = 440
"""Most samples of a scrape of a run with eight heads, as docs/metrics.md says."""

MONITORING = 'alertname=~"RLMonitoring.+|RLExporter.+|RLTrainingTarget.+"'


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    numbers = (_watchdog(), _rules(), _rule_failures(), _alertmanagers(), _undelivered(), _down())
    panels: list[layout.Placed] = [
        (panel, 8 * (place % 3), 3 * (place // 3), 8, 3) for place, panel in enumerate(numbers)
    ]
    panels += [
        (alerts_table("the monitoring", MONITORING, ("problem", "run_id", "instance")), 0, 6, 24, 6),
        (_targets(), 0, 12, 24, 9),
    ]
    for place, panel in enumerate(lines()):
        panels.append((panel, 8 * (place % 3), 21 + 8 * (place // 3), 8, 8))
    about = "From exporter to pager: what is scraped, evaluated and delivered. While something here is red, silence says nothing."
    return layout.build_dashboard(
        layout.PIPELINE_UID, "RL Pipeline", about, panels, marked=False, selected=variables.of_targets()
    )


def _watchdog() -> stat.Panel:
    panel = stat_panel(
        "Watchdog last seen",
        "RLMonitoringWatchdog always fires. Its age should stay below a minute; when it grows, rules are not evaluated "
        "and no alert can fire. None: Prometheus has no alert rules loaded; see rule_files in prometheus.yml.",
        NO_ANSWER,
        # The subquery samples every 15 s: alone it would miss the first moments of a Prometheus.
        instant_query(
            f"time() - max(timestamp({WATCHDOG}) or max_over_time(timestamp({WATCHDOG})[1h:15s])) or vector(-1)"
        ),
        words=[style.value_mapping({-1: ("✖ no rules loaded", style.RED)}), *style.ages()],
    )
    return (
        panel.unit("s")
        .decimals(0)
        .thresholds(style.thresholds((None, style.GREEN), (60, style.YELLOW), (300, style.RED)))
    )


def _or_self_scraped(expression: str, otherwise: int) -> str:
    """The expression, or a number where Prometheus scrapes itself and therefore would have had it."""
    return f"{expression} or {otherwise} + 0 * max(prometheus_build_info)"


NO_RULES_MAPPING = style.value_mapping({-1: ("no rules loaded", style.DIM)})


def _rules() -> stat.Panel:
    panel = stat_panel(
        "Rules loaded",
        "Recording and alert rules of this project that Prometheus evaluates. None: dashboards show no level and no "
        "alert can fire: see rule_files in prometheus.yml.",
        NO_PROMETHEUS,
        instant_query(_or_self_scraped(f"sum(prometheus_rule_group_rules{{{RULES}}})", 0)),
        words=[style.value_mapping({0: ("✖ no rules loaded", style.RED)})],
    )
    panel = panel.thresholds(style.thresholds((None, style.RED), (1, style.GREEN)))
    return panel.decimals(0).unit("prefix:● ")


def _increase(title: str, description: str, expression: str, no_value: str) -> stat.Panel:
    """A number of failures: none is green with a dot, one is red with a cross."""
    none, cause = style.value_mapping({0: ("● 0", style.GREEN)}), NO_RULES_MAPPING
    panel = stat_panel(title, description, no_value, instant_query(f"round({expression})"), words=[none, cause])
    return panel.decimals(0).unit("prefix:✖ ").thresholds(style.bad_above(1))


def _rule_failures() -> stat.Panel:
    failures = f"sum(increase(prometheus_rule_evaluation_failures_total{{{RULES}}}[15m]))"
    return _increase(
        "Rule failures, 15 min",
        "Evaluations of this project's rules that failed. Anything above 0: read Prometheus' log for the rule.",
        _or_self_scraped(failures, -1),
        NO_PROMETHEUS,
    )


def _alertmanagers() -> stat.Panel:
    panel = stat_panel(
        "Alertmanagers",
        "Alertmanagers that Prometheus knows. None: alerts go nowhere.",
        NO_PROMETHEUS,
        instant_query("max(prometheus_notifications_alertmanagers_discovered)"),
        words=[style.value_mapping({0: ("✖ none", style.RED)})],
    )
    panel = panel.thresholds(style.thresholds((None, style.RED), (1, style.GREEN)))
    return panel.decimals(0).unit("prefix:● ")


def _undelivered() -> stat.Panel:
    return _increase(
        "Undelivered, 15 min",
        "Alerts that did not reach Alertmanager, and notifications that it could not deliver. Above 0: check the "
        "receiver's address and credentials.",
        "sum(increase(prometheus_notifications_errors_total[15m])) + (sum(increase(alertmanager_notifications_failed_total[15m])) or vector(0))",
        NO_PROMETHEUS,
    )


def _down() -> stat.Panel:
    target = "job, instance, cluster, namespace"
    running = f'rl_training_run_state{{{TRAINERS}, state="running"}}'
    ended = f"max by ({target}) (last_over_time({running}[$__range])) == 0"
    return _increase(
        "Targets down",
        "Training targets that are listed and do not answer. Not counted: those whose run said that it ended.",
        f"count(up{{{TRAINERS}}} == 0 unless on ({target}) {ended}) or count(up{{{TRAINERS}}}) * 0",
        NO_TARGET,
    )


def _targets() -> table.Panel:
    def by_target(metric: str, by: str = "instance") -> str:
        return f'max by ({by}) ({metric}{{{TRAINERS}}} or {metric}{{job=~"prometheus|alertmanager"}})'

    queries = (
        by_target("up", "job, instance"),
        by_target("scrape_duration_seconds"),
        by_target("scrape_samples_scraped"),
        "max by (instance, version) (rl_exporter_build_info)",
    )
    panel = table_panel(
        "Targets",
        "What Prometheus scrapes. down: it is listed and does not answer. A run of eight heads has at most "
        f"{SAMPLES} samples.",
        NO_TARGET,
        *(table_query(expression, ref) for expression, ref in zip(queries, "ABCD", strict=True)),
    )
    panel = panel.with_transformation(
        transformation("filterFieldsByName", {"exclude": {"pattern": "^(Time|Value #D)$"}})
    )
    panel = panel.with_transformation(transformation("joinByField", {"byField": "instance", "mode": "outer"}))
    order = ("job", "instance", "Value #A", "Value #B", "Value #C", "version")
    places = {name: place for place, name in enumerate(order)}
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    panel = panel.with_transformation(transformation("sortBy", {"sort": [{"field": "Value #A"}]}))
    answers = style.value_mapping({1: ("● up", style.GREEN), 0: ("▲ down", style.RED)})
    coloured = {"mappings": [answers], "custom.cellOptions": {"type": "color-background", "mode": "basic"}}
    return with_overrides(
        panel,
        {
            "Value #A": {"displayName": "answers", "custom.width": 100} | coloured,
            "Value #B": {"displayName": "scrape takes", "unit": "s", "decimals": 3},
            "Value #C": {"displayName": "samples", "decimals": 0},
            "version": {"displayName": "exporter"},
        },
    )
