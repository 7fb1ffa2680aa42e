"""``rl-exporter bundle --into existing``: what to merge into servers that exist."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rl_exporter.alerting.bundle import read_shipped, shipped_files
from rl_exporter.alerting.rewriting import Choices

Fragment = Mapping[str, Any]
"""Keys of a server's configuration, as a path with dots, and the items to put into the list there."""

RULES, TARGETS, TEMPLATE = Path("prometheus/rl/rules"), Path("prometheus/rl/targets"), "rl/rl.tmpl"
"""Where the files go that the fragments name: beside the configuration of the server."""

OUR_RULES = RULES.relative_to("prometheus")
"""The folder of our rules, from the configuration of Prometheus."""

_INTERVAL = "15s"
"""Of scrapes and rules, whatever the server's own: that of the shipped configuration."""

_ALERTS = "RL(Policy|Training|Exporter|Monitoring).+"


def prometheus_fragment(choices: Choices) -> Fragment:
    """The rule files and the scrape job, whose interval is ours: a run waits at its end for a scrape or two."""
    [job] = [one for one in _document("prometheus/prometheus.yml")["scrape_configs"] if "sample_limit" in one]
    for discovery in job["file_sd_configs"]:
        discovery["files"] = ["rl/targets/*.json"]
    named = {**job, "job_name": choices.job}
    first = {"job_name": named.pop("job_name"), "scrape_interval": _INTERVAL}
    return {"rule_files": [f"{OUR_RULES.as_posix()}/*.yml"], "scrape_configs": [{**first, **named}]}


def alertmanager_fragment(choices: Choices) -> Fragment:
    """The message templates, a route for our alerts alone, and its inhibition and receivers."""
    document = _document(choices.receiver.file)
    labels = (f"{name}={_matched(value)}" for name, value in choices.labels.items())
    matchers = [f'alertname=~"{_ALERTS}"', *labels]
    route = {"matchers": matchers, **_named(document["route"], choices.prefix)}
    receivers = [_named(receiver, choices.prefix, "name") for receiver in document["receivers"]]
    return {
        "templates": [TEMPLATE],
        "route.routes": [route],
        "inhibit_rules": document["inhibit_rules"],
        "receivers": receivers,
    }


def _named(part: dict[str, Any], prefix: str, key: str = "receiver") -> dict[str, Any]:
    """A route with its sub-routes, or a receiver, under the names that receivers get."""
    named = {**part, key: f"{prefix}{part[key]}"}
    if "routes" in part:
        named["routes"] = [_named(route, prefix) for route in part["routes"]]
    return named


def _matched(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _document(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(read_shipped(name))
    return document


def fragment_files(choices: Choices) -> dict[Path, str]:
    """Every file by its path: two folders to copy beside the servers' configurations, and what they lack."""
    files: dict[Path, str] = {}
    for name in shipped_files():
        place = _place(name)
        if place is not None:
            text = choices.applied(name, read_shipped(name))
            files[place] = _with_interval(text) if place.parent == RULES else text
    for server, fragment in (
        ("prometheus", prometheus_fragment(choices)),
        ("alertmanager", alertmanager_fragment(choices)),
    ):
        files[Path(f"fragments/{server}.yml")] = _HEADERS[server] + shown(nested(fragment))
    return files


_HEADERS: Mapping[str, str] = {
    "prometheus": "# Put each item into the list of that name in prometheus.yml. Paths are relative to it.\n",
    "alertmanager": "# Put each item into the list of that name in alertmanager.yml, and the route before all\n"
    "# others. Paths are relative to it.\n",
}


def _with_interval(rules: str) -> str:
    """Rules that are evaluated as often as they are tested, whatever the server's own interval."""
    return re.sub(r"(?m)^( +)- name: .*\n(?!\1  interval:)", rf"\g<0>\1  interval: {_INTERVAL}\n", rules)


def _place(name: Path) -> Path | None:
    """Where a shipped file goes; None for whole configurations of servers."""
    folder = name.parent.as_posix()
    moved = {"prometheus/rules": RULES, "alerts/rules": RULES, "prometheus/targets": TARGETS}
    moved |= {"alerts/templates": Path("alertmanager/rl"), "alerts/runbooks": Path("runbooks")}
    if folder in moved:
        return moved[folder] / name.name
    return name if name.parts[0] == "grafana" or name.parts[:2] == ("deploy", "kubernetes") else None


def nested(fragment: Fragment) -> dict[str, Any]:
    """A fragment as the mapping that its dotted keys mean."""
    document: dict[str, Any] = {}
    for path, items in fragment.items():
        *parents, key = path.split(".")
        place = document
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = items
    return document


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, as people write them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def shown(value: object) -> str:
    """YAML, in the order given, a line for each value however long."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return text
