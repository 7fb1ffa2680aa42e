"""The frame of every dashboard: variables, links, annotations, grid positions, and the form as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards import variables
from rl_dashboards.annotations import annotation, events
from rl_dashboards.queries import chosen

TAG = "rl-policy-exporter"
HEADS_UID, RUN_UID, FLEET_UID, PIPELINE_UID, COMPARE_UID = (
    "rl-heads",
    "rl-run",
    "rl-fleet",
    "rl-pipeline",
    "rl-compare",
)
OF_A_RUN = {HEADS_UID: "RL Heads", RUN_UID: "RL Run"}
OF_ALL = {FLEET_UID: "RL Fleet", COMPARE_UID: "RL Compare", PIPELINE_UID: "RL Pipeline"}

ONE_RUN = {chosen(name): f'{name}="${name}"' for name in ("cluster", "namespace")}
ONE_RUN |= {chosen("run_id"): f"run_id={variables.RUN_ID}"}
"""Matchers of a dashboard about one run. Grafana escapes the value of a variable for a pattern only where the variable
may have several, and an empty value must match only a run without the label."""

Panel = Builder[model.Panel] | builders.Row
Placed = tuple[Panel, int, int, int, int]
"""A panel with x, y, width and height on Grafana's grid of 24 columns."""


def _links(uid: str) -> Sequence[builders.DashboardLink]:
    """Links to the other dashboards. What is selected goes along between those of one run, and between those of all runs.

    From a run to all runs nothing goes along: Fleet shows them all. The head does not go to Compare, which takes one.
    """
    others = {other: title for other, title in {**OF_ALL, **OF_A_RUN}.items() if other != uid}
    return [
        builders.DashboardLink(title)
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{other}?${{datasource:queryparam}}{_carried(uid, other)}")
        .keep_time(True)
        .include_vars(uid in OF_A_RUN and other in OF_A_RUN)
        .icon("dashboard")
        .tooltip("")
        .target_blank(False)
        for other, title in others.items()
    ]


def _carried(uid: str, other: str) -> str:
    """What is selected in a dashboard of all runs, for the URL of another; Pipeline has no variable for the run."""
    both = {uid, other}
    if not both <= OF_ALL.keys():
        return ""
    names = ("cluster", "namespace") if PIPELINE_UID in both else ("cluster", "namespace", "run_id")
    return "".join(f"&${{{name}:queryparam}}" for name in names)


def build_dashboard(
    uid: str,
    title: str,
    description: str,
    panels: Sequence[Placed],
    *,
    marked: bool = True,
    one_run: bool = False,
    selected: variables.Variables = (),
    more: variables.Variables = (),
) -> dict[str, Any]:
    """Build a dashboard in Grafana's JSON model. Panels get their ids in order. ``more`` variables follow the common ones.

    ``marked``: draw lines at alerts and other events. Not for a fleet, whose many lines would hide the graphs.
    ``one_run``: the variables choose one run. ``selected``: they are others.
    """
    common = selected or (variables.of_one_run() if one_run else variables.of_many_runs())
    names = [variable.build().name for variable in more]
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
        .variables([*(one for one in common if one.build().name not in names), *more])
        .annotations([annotation(event) for event in events()] if marked else [])
    )
    for link in _links(uid):
        dashboard = dashboard.link(link)
    # Through JSON, because the SDK encodes its models only there.
    built = json.loads(json.dumps(dashboard.build(), cls=JSONEncoder))
    built["panels"] = [_placed(number, *placed) for number, placed in enumerate(panels, start=1)]
    return dict(_of_one_run(built) if one_run else built)


def _of_one_run(dashboard: dict[str, Any]) -> Any:
    text = json.dumps(dashboard)
    for several, one in ONE_RUN.items():
        text = text.replace(json.dumps(several)[1:-1], json.dumps(one)[1:-1])
    return json.loads(text)


def _placed(number: int, panel: Panel, x: int, y: int, w: int, h: int) -> dict[str, Any]:
    built = dict(json.loads(json.dumps(panel.build(), cls=JSONEncoder)))
    return built | {"id": number, "gridPos": {"x": x, "y": y, "w": w, "h": h}}


def to_json(dashboard: dict[str, Any]) -> str:
    """JSON text with sorted keys, so that only a change makes a difference."""
    return json.dumps(dashboard, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
