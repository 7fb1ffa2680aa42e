"""Dashboards as grafana.com and the import page of Grafana take them: the data source is an input."""

from __future__ import annotations

import json
from typing import Any

INPUT = "DS_PROMETHEUS"
OLDEST_GRAFANA = "11.0.0"


def importable(dashboard: dict[str, Any]) -> dict[str, Any]:
    """The same dashboard with an input for its data source instead of a variable."""
    built = json.loads(json.dumps(dashboard).replace("${datasource}", f"${{{INPUT}}}"))
    text = json.dumps(built).replace("${datasource:queryparam}&", "").replace("?${datasource:queryparam}", "")
    built = json.loads(text)
    variables = built["templating"]["list"]
    built["templating"]["list"] = [one for one in variables if one["type"] != "datasource"]
    built["editable"] = True
    return {**built, "id": None, "__inputs": [_input()], "__requires": _required(built), "__elements": {}}


def _input() -> dict[str, str]:
    return {
        "name": INPUT,
        "label": "Prometheus",
        "description": "The Prometheus that scrapes the runs and evaluates the rules",
        "type": "datasource",
        "pluginId": "prometheus",
        "pluginName": "Prometheus",
    }


def _required(dashboard: dict[str, Any]) -> list[dict[str, str]]:
    panels = sorted({panel["type"] for panel in dashboard["panels"]} - {"row"})
    return [
        {"type": "grafana", "id": "grafana", "name": "Grafana", "version": OLDEST_GRAFANA},
        {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
        *({"type": "panel", "id": panel, "name": panel, "version": ""} for panel in panels),
    ]
