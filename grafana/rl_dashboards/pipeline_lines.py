"""Panels of Pipeline over time: scrapes, evaluation of rules, and notifications."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from rl_dashboards.panels import (
    narrow_timeseries_panel,
    range_query,
)
from rl_dashboards.queries import chosen

TRAINERS = f'job="rl-training", {chosen("cluster")}, {chosen("namespace")}'
RULES = 'rule_group=~".+;rl-.+"'

NO_PROMETHEUS = "Prometheus does not scrape itself"
NOT_EXPORTED = "no exporter has answered in this time range"
NO_ALERTMANAGER = "no Alertmanager is scraped: see prometheus/alertmanagers/"
NO_TARGET = "no training target: list one in prometheus/targets/*.json"


def lines() -> list[timeseries.Panel]:
    """The panels, in their order."""
    return [*_scrapes(), *_evaluation(), *_notifications()]


def _scrapes() -> list[timeseries.Panel]:
    count, total = (
        f"rate(rl_exporter_render_duration_seconds_{part}[$__rate_interval])" for part in ("count", "sum")
    )
    errors = "increase(rl_exporter_record_errors_total[$__rate_interval])"
    dropped = "increase(rl_exporter_dropped_values_total[$__rate_interval])"
    rendering = f"avg({total} / ({count} > 0))"
    return [
        narrow_timeseries_panel(
            "Scrape duration",
            "Time that a scrape takes. It should stay far below the scrape timeout (10 s).",
            NO_TARGET,
            range_query(f"max(scrape_duration_seconds{{{TRAINERS}}})", "slowest trainer", "A"),
            range_query(f"avg(scrape_duration_seconds{{{TRAINERS}}})", "mean", "B"),
        )
        .unit("s")
        .min(0),
        narrow_timeseries_panel(
            "Exporter: rendering /metrics",
            "What an answer costs the exporter; about a millisecond is usual.",
            NOT_EXPORTED,
            range_query(rendering, "mean per scrape"),
        )
        .unit("s")
        .min(0),
        narrow_timeseries_panel(
            "Exporter: record errors",
            "Errors inside telemetry; each lost values of an update. Training goes on, but what "
            "is shown may stand still. Above 0: read the trainer's log. A field beside an instance is the "
            "argument of record() whose values are impossible.",
            NOT_EXPORTED,
            range_query(f"sum({errors})", "all trainers", "A"),
            range_query(f"topk(5, sum by (instance) ({errors}) > 0)", "{{instance}}", "B"),
            range_query(
                f"topk(5, sum by (instance, field) ({dropped}) > 0)", "{{instance}}: {{field}} dropped", "C"
            ),
        )
        .min(0)
        .axis_soft_max(1),
    ]


def _evaluation() -> list[timeseries.Panel]:
    return [
        narrow_timeseries_panel(
            "Rule evaluation time",
            "Time that each rule group takes; it must stay below its interval (15 s).",
            NO_PROMETHEUS,
            range_query(
                f"label_replace(max by (rule_group) (prometheus_rule_group_last_duration_seconds{{{RULES}}}), "
                '"group", "$1", "rule_group", ".+;(.+)")',
                "{{group}}",
            ),
        )
        .unit("s")
        .min(0),
        narrow_timeseries_panel(
            "Missed and failed evaluations",
            "Groups that took longer than their interval, and rules that failed.",
            NO_PROMETHEUS,
            range_query(
                f"sum(increase(prometheus_rule_group_iterations_missed_total{{{RULES}}}[$__rate_interval]))",
                "missed",
                "A",
            ),
            range_query(
                f"sum(increase(prometheus_rule_evaluation_failures_total{{{RULES}}}[$__rate_interval]))",
                "failed",
                "B",
            ),
        )
        .min(0)
        .axis_soft_max(1),
        narrow_timeseries_panel(
            "Targets by state",
            "Listed training targets that answer and that do not.",
            NO_TARGET,
            range_query(f"sum(up{{{TRAINERS}}})", "up", "A"),
            range_query(f"count(up{{{TRAINERS}}}) - sum(up{{{TRAINERS}}})", "down", "B"),
        )
        .min(0)
        .decimals(0),
    ]


def _notifications() -> list[timeseries.Panel]:
    return [
        narrow_timeseries_panel(
            "Alerts sent to Alertmanager",
            "Sent, failed and dropped per second. Failed: Alertmanager does not answer. Dropped: "
            "the queue overflowed.",
            NO_PROMETHEUS,
            range_query("sum(rate(prometheus_notifications_sent_total[$__rate_interval]))", "sent", "A"),
            range_query("sum(rate(prometheus_notifications_errors_total[$__rate_interval]))", "failed", "B"),
            range_query("sum(rate(prometheus_notifications_dropped_total[$__rate_interval]))", "dropped", "C"),
        ).min(0),
        narrow_timeseries_panel(
            "Notifications delivered",
            "What Alertmanager delivered to receivers, and what it could not.",
            NO_ALERTMANAGER,
            range_query(
                "sum by (integration) (increase(alertmanager_notifications_total[$__rate_interval]) > 0)",
                "{{integration}}",
                "A",
            ),
            range_query(
                "sum by (integration) (increase(alertmanager_notifications_failed_total[$__rate_interval]) > 0)",
                "{{integration}} failed",
                "B",
            ),
        ).min(0),
        narrow_timeseries_panel(
            "Alerts in Alertmanager",
            "Active ones notify, suppressed ones are silenced or inhibited.",
            NO_ALERTMANAGER,
            range_query("sum by (state) (alertmanager_alerts)", "{{state}}"),
        )
        .min(0)
        .decimals(0),
    ]
