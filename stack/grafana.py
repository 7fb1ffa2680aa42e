"""Grafana from an unpacked release, on loopback and without requests to the internet, and how it asks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from rl_exporter.alerting.bundle import shipped
from stack.servers import MissingServerError

UNREACHABLE = "http://127.0.0.1:9"
"""The discard port, where nothing listens. It replaces grafana.com, which Grafana would contact."""


def find_grafana(home: str | None) -> Path:
    """The release that GRAFANA_HOME names. Raises MissingServerError with the remedy."""
    remedy = "set GRAFANA_HOME to a Grafana 11 or 12 tree that holds bin/grafana, conf and public"
    if not home:
        raise MissingServerError(remedy)
    tree = Path(home).resolve()
    lacking = [name for name in ("bin/grafana", "conf/defaults.ini", "public") if not (tree / name).exists()]
    if lacking:
        raise MissingServerError(f"{home} lacks {', '.join(lacking)}; {remedy}")
    return tree


def grafana_command(tree: Path) -> tuple[str, ...]:
    """The command that starts it."""
    return (str(tree / "bin/grafana"), "server", "--homepath", str(tree))


def grafana_environment(address: str, prometheus: str, data: Path) -> Mapping[str, str]:
    """Its environment: the variables of the provisioning files, anonymous viewers, its data under ``data``."""
    host, _, port = address.rpartition(":")
    dashboards = shipped() / "grafana/dashboards"
    settings = {
        "PROMETHEUS_URL": f"http://{prometheus}",
        "RL_DASHBOARDS": str(dashboards),
        "GF_SERVER_HTTP_ADDR": host,
        "GF_SERVER_HTTP_PORT": port,
        "GF_PATHS_DATA": str(data),
        "GF_PATHS_LOGS": str(data / "log"),
        "GF_PATHS_PLUGINS": str(data / "plugins"),
        "GF_PATHS_PROVISIONING": str(shipped() / "grafana/provisioning"),
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(dashboards / "rl-fleet.json"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_USERS_ALLOW_SIGN_UP": "false",
        # Each of these would send a request to the internet.
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_ANALYTICS_FEEDBACK_LINKS_ENABLED": "false",
        "GF_SECURITY_DISABLE_GRAVATAR": "true",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
        "GF_PLUGINS_PLUGIN_ADMIN_ENABLED": "false",
        "GF_GRAFANA_COM_URL": UNREACHABLE,
        "GF_GRAFANA_COM_API_URL": f"{UNREACHABLE}/api",
        "GF_LOG_LEVEL": "warn",
    }
    return os.environ | settings


def interpolated(query: str, values: Mapping[str, str]) -> str:
    """A query of the dashboards as Grafana sends it, with ``$name`` and its formats filled in.

    ``values`` holds patterns where several may be chosen. What it lacks stays, such as a ``$1`` of PromQL.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in values:
            return found[0]
        escaped = values[name].replace('"', r"\"")
        return f'"{escaped}"' if found[3] == "doublequote" else values[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+):(doublequote|regex)\})", value, query)
