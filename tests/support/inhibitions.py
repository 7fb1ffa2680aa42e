"""What Alertmanager inhibits by the rules of ``alerts/alertmanager.yml``."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tests.support import ROOT

Labels = Mapping[str, str]


def inhibitions() -> Sequence[Mapping[str, Any]]:
    """The inhibition rules that this project ships."""
    rules: Sequence[Mapping[str, Any]] = yaml.safe_load((ROOT / "alerts/alertmanager.yml").read_text())[
        "inhibit_rules"
    ]
    return rules


def inhibited(rules: Sequence[Mapping[str, Any]], source: Labels, target: Labels) -> bool:
    """Whether an alert that fires keeps another one from notifying."""
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
