"""The frame of every dashboard: variables, links, annotations, grid positions, and the form as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards.panels import DATASOURCE
from rl_dashboards.queries import RUN, active_since, environment_selector
from rl_exporter.environment_metrics import PREFIX

TAG = "rl-policy-exporter"
HEADS_UID, RUN_UID, FLEET_UID, PIPELINE_UID = "rl-heads", "rl-run", "rl-fleet", "rl-pipeline"
ALL = ".*"
"""Value of the variable option All. Unlike Grafana's default it also matches series without the label."""

Placed = tuple[Builder[model.Panel], int, int, int, int]
"""A panel with x, y, width and height on Grafana's grid of 24 columns."""


def _choice(name: str, label: str, query: str, description: str) -> builders.QueryVariable:
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": f"variable-{name}"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(ALL)
        .current(everything)
    )


def template_variables() -> list[Builder[model.VariableModel]]:
    """Data source, cluster, run and head. All but the first have the option All."""
    heads = f"label_values(rl_policy_head_entropy_max_nats{{{RUN}}}, head)"
    runs = 'label_values(rl_training_run_info{cluster=~"$cluster"}, run_id)'
    source = builders.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return [
        source,
        _choice("cluster", "Cluster", "label_values(rl_training_run_info, cluster)",
                "Label of the scrape target; targets need not have it."),
        _choice("run_id", "Run", runs, "Runs with samples in the time range."),
        _choice("head", "Head", heads, "Action heads of the selected runs."),
    ]  # fmt: skip


class _AlertAnnotation(model.AnnotationQuery):
    """Adds the fields of the Prometheus data source that the SDK's annotation lacks.

    ``useValueForTime`` draws one line at the time when an alert became active. Without it an alert shades the
    whole time it fires, and many alerts hide the graph.
    """

    def to_json(self) -> dict[str, object]:
        fields = {"step": "15s", "titleFormat": "{{alertname}}", "textFormat": "{{head}} {{run_id}}"}
        return super().to_json() | fields | {"tagKeys": "severity", "useValueForTime": True}


class _Alerts(builders.AnnotationQuery):
    def __init__(self) -> None:
        super().__init__()
        self._internal = _AlertAnnotation()


def _alert_annotations(shown: bool) -> _Alerts:
    annotations = _Alerts()
    milliseconds = f"1000 * {active_since(RUN)}"
    annotations.name("Alerts").datasource(DATASOURCE).enable(shown).icon_color("red").expr(milliseconds)
    return annotations


def _links() -> builders.DashboardLink:
    link = builders.DashboardLink("").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(False)
    return link.keep_time(True).include_vars(True).icon("external link").tooltip("").url("").target_blank(False)


def environment_variable() -> builders.QueryVariable:
    """What the environments of the selected runs report, by names without their prefix."""
    names = f"label_values({environment_selector()}, __name__)"
    about = "Numbers that the environments of the selected runs report."
    return _choice("environment_metric", "Environment", names, about).regex(f"/{PREFIX}(.*)/")


def build_dashboard(
    uid: str,
    title: str,
    description: str,
    panels: Sequence[Placed],
    *,
    alerts_marked: bool = True,
    variables: Sequence[Builder[model.VariableModel]] = (),
) -> dict[str, Any]:
    """Build a dashboard in Grafana's JSON model. Panels get their ids in order. ``variables`` follow the common ones.

    ``alerts_marked``: draw a line where an alert became active. Off for a fleet, whose many lines hide the
    graphs.
    """
    dashboard = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .time("now-1h", "now")
        .refresh("15s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables([*template_variables(), *variables])
        .annotation(_alert_annotations(alerts_marked))
        .link(_links())
    )
    # Through JSON, because the SDK encodes its models only there.
    built = json.loads(json.dumps(dashboard.build(), cls=JSONEncoder))
    built["panels"] = [_placed(number, *placed) for number, placed in enumerate(panels, start=1)]
    return dict(built)


def _placed(number: int, panel: Builder[model.Panel], x: int, y: int, w: int, h: int) -> dict[str, Any]:
    built = dict(json.loads(json.dumps(panel.build(), cls=JSONEncoder)))
    return built | {"id": number, "gridPos": {"x": x, "y": y, "w": w, "h": h}}


def to_json(dashboard: dict[str, Any]) -> str:
    """JSON text with sorted keys, so that only a change makes a difference."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
