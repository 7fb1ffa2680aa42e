"""All dashboards by file name."""

from __future__ import annotations

from source import fleet, heads, pipeline, run
from source.frame import to_json


def rendered() -> dict[str, str]:
    """File name and JSON text of each dashboard."""
    built = (heads.dashboard(), run.dashboard(), fleet.dashboard(), pipeline.dashboard())
    return {f"{dashboard['uid']}.json": to_json(dashboard) for dashboard in built}
