"""Converts ``alerts/alertmanager.yml`` to an AlertmanagerConfig of the operator: routes, inhibition, receivers.

The addresses of the receivers come from a Secret: those in the file are for a single machine, and a real one
often contains a token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from rl_manifests.sources import ROOT, head, indented

ADDRESSES = "rl-alert-receivers"
"""Name of the Secret with one key for each receiver, its address."""

_SOURCE = ROOT / "alerts/alertmanager.yml"
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')
_KEYS: Mapping[str, str] = {
    "group_by": "groupBy",
    "group_wait": "groupWait",
    "group_interval": "groupInterval",
    "repeat_interval": "repeatInterval",
}


def files() -> dict[str, str]:
    """Name and text of the manifest."""
    source = yaml.safe_load(_SOURCE.read_text("utf-8"))
    text = yaml.safe_dump({"spec": _specification(source)}, sort_keys=False, width=100)
    lines = head(_SOURCE, "monitoring.coreos.com/v1alpha1", "AlertmanagerConfig", "rl-alerts")
    return {"config.yaml": lines + indented(text, 0)}


def _specification(source: Mapping[str, Any]) -> dict[str, Any]:
    # One Alertmanager serves the whole cluster: leave alerts of other rules to their own configuration.
    route = {**_route(source["route"]), "matchers": [_matcher('alertname=~"RL.+"')]}
    return {
        "route": route,
        "inhibitRules": [_inhibition(rule) for rule in source["inhibit_rules"]],
        "receivers": [_receiver(receiver) for receiver in source["receivers"]],
    }


def _route(source: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a route and its children. Raises KeyError for an unknown key rather than dropping it silently."""
    route: dict[str, Any] = {}
    for key, value in source.items():
        if key == "matchers":
            route["matchers"] = [_matcher(text) for text in value]
        elif key == "routes":
            route["routes"] = [_route(child) for child in value]
        else:
            route["receiver" if key == "receiver" else _KEYS[key]] = value
    return route


def _inhibition(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sourceMatch": [_matcher(text) for text in source["source_matchers"]],
        "targetMatch": [_matcher(text) for text in source["target_matchers"]],
        "equal": source["equal"],
    }


def _matcher(text: str) -> dict[str, str]:
    # Alertmanager also accepts unquoted values; one notation is enough here, and easier to get right.
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f'matcher {text!r} in {_SOURCE.name} is not NAME="VALUE"; quote its value')
    return {"name": found[1], "matchType": found[2], "value": found[3]}


def _receiver(source: Mapping[str, Any]) -> dict[str, Any]:
    name = source["name"]
    hooks = [_webhook(name, hook) for hook in source.get("webhook_configs", [])]
    return {"name": name, **({"webhookConfigs": hooks} if hooks else {})}


def _webhook(receiver: str, source: Mapping[str, Any]) -> dict[str, Any]:
    limit = {"maxAlerts": source["max_alerts"]} if "max_alerts" in source else {}
    return {
        "urlSecret": {"name": ADDRESSES, "key": receiver},
        "sendResolved": source["send_resolved"],
        **limit,
    }
