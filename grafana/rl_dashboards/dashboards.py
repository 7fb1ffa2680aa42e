"""Renders all dashboards."""

from __future__ import annotations

from rl_dashboards import compare_dashboard, fleet_dashboard, heads_dashboard, pipeline_dashboard, run_dashboard
from rl_dashboards.layout import to_json


def rendered() -> dict[str, str]:
    """JSON text of each dashboard, by file name."""
    built = (
        heads_dashboard.dashboard(),
        run_dashboard.dashboard(),
        fleet_dashboard.dashboard(),
        compare_dashboard.dashboard(),
        pipeline_dashboard.dashboard(),
    )
    return {f"{dashboard['uid']}.json": to_json(dashboard) for dashboard in built}
