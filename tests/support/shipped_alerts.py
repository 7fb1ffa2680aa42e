"""The alerts that this project ships, and which of them keep others from notifying."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.support import ROOT

Labels = Mapping[str, str]

CONFIGURATION = ROOT / "alerts/alertmanager.yml"


def alert_rules() -> Iterator[Mapping[str, Any]]:
    """The rule of each alert, in the order of the files."""
    for path in sorted(ROOT.glob("alerts/rules/*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def inhibitions() -> Sequence[Mapping[str, Any]]:
    """The inhibition rules of ``alerts/alertmanager.yml``."""
    rules: Sequence[Mapping[str, Any]] = yaml.safe_load(CONFIGURATION.read_text())["inhibit_rules"]
    return rules


def inhibited(rules: Sequence[Mapping[str, Any]], source: Labels, target: Labels) -> bool:
    """Whether Alertmanager keeps one alert from notifying while another one fires."""
    return source != target and any(
        _matched(rule["source_matchers"], source)
        and _matched(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for rule in rules
    )


def _matched(matchers: Sequence[str], labels: Labels) -> bool:
    """Whether labels, absent ones empty, satisfy matchers of Alertmanager."""
    for matcher in matchers:
        parts = re.fullmatch(r'(\w+)(=~|=)"(.*)"', matcher)
        assert parts, matcher
        label, operator, value = parts.groups()
        if not re.fullmatch(value if operator == "=~" else re.escape(value), labels.get(label, "")):
            return False
    return True
