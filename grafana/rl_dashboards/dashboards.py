"""Renders all dashboards, for provisioning and for import."""

from __future__ import annotations

from rl_dashboards import (
    compare_dashboard,
    fleet_dashboard,
    heads_dashboard,
    pipeline_dashboard,
    run_dashboard,
)
from rl_dashboards.importable import importable
from rl_dashboards.layout import to_json

PROVISIONED, IMPORTED = "dashboards", "import"
"""Folders in ``grafana/``: what is provisioned, with a variable for the data source, and what people import."""


def rendered() -> dict[str, str]:
    """JSON text of each dashboard, by path in ``grafana/``."""
    built = (
        heads_dashboard.dashboard(),
        run_dashboard.dashboard(),
        fleet_dashboard.dashboard(),
        compare_dashboard.dashboard(),
        pipeline_dashboard.dashboard(),
    )
    provisioned = {f"{PROVISIONED}/{dashboard['uid']}.json": to_json(dashboard) for dashboard in built}
    imported = {f"{IMPORTED}/{dashboard['uid']}.json": to_json(importable(dashboard)) for dashboard in built}
    return provisioned | imported
