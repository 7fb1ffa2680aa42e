"""A promtool test group: simulated runs, and what must be true of the rules' results at which time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tests.alerts.rule_cases.notation import selector
from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS, Run, series

RULE_FILES: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "../../prometheus/rules/entropy.yml",
        "heads": "../rules/heads.yml",
        "training": "../rules/training.yml",
        "monitoring": "../rules/monitoring.yml",
    }
)
"""The files of rules, as seen from the test files."""

# Alerts before recording rules: an alert then sees what was recorded one interval earlier, which is the
# worst that can happen between two groups of one Prometheus.
_GROUPS = ("heads", "training", "monitoring", "entropy")

_FIRING = 'ALERTS{alertstate="firing", severity!="info", alertname!~"RLMonitoring.+"}'
_BY = "alertname, run_id, head"


Expected = tuple[tuple[Mapping[str, str], float], ...]
"""Values by label set."""


@dataclass(frozen=True)
class Check:
    """One expression at one time, and its exact result: values by label set."""

    at: float
    expression: str
    expected: Expected = ()


@dataclass(frozen=True)
class Case:
    """One simulated situation."""

    name: str
    runs: tuple[Run, ...]
    seconds: float
    checks: tuple[Check, ...]
    extra: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[Mapping[str, Any], ...] = ()
    """Tests of whole alerts, with annotations, as promtool takes them."""


def alert(name: str, head: str = "", run_id: str = "a") -> Mapping[str, str]:
    """The labels by which a firing alert is known here."""
    return {"alertname": name, **({"run_id": run_id} if run_id else {}), **({"head": head} if head else {})}


def firing(at: float, *alerts: Mapping[str, str]) -> Check:
    """Exactly these alerts are firing, of those that page."""
    return Check(at, f"group by ({_BY}) ({_FIRING})", tuple((labels, 1.0) for labels in alerts))


def is_firing(at: float, name: str, count: int = 1) -> Check:
    """``count`` alerts of this name are firing, whatever else is."""
    found: Expected = (({}, float(count)),) if count else ()
    return Check(at, f'count(ALERTS{{alertstate="firing", alertname="{name}"}})', found)


def nothing_at_all(seconds: float, since: float) -> Check:
    """Not even an info has fired after ``since`` and up to ``seconds``."""
    every = 'ALERTS{alertstate="firing", alertname!~"RLMonitoring.+"}'
    return Check(seconds, f"count(count_over_time({every}[{int(seconds - since)}s]))")


def ever(seconds: float, *alerts: Mapping[str, str], since: float = 0) -> Check:
    """Of the alerts that page, exactly these have fired at any time after ``since`` and up to ``seconds``."""
    window = int(seconds - since)
    return Check(
        seconds,
        f"group by ({_BY}) (count_over_time({_FIRING}[{window}s]))",
        tuple((labels, 1.0) for labels in alerts),
    )


def opens_at_most_once_in_ten_minutes(seconds: float, name: str) -> Check:
    """In no ten minutes up to ``seconds`` did an alert of this name open twice.

    ALERTS_FOR_STATE holds the time of the opening: it changed, and both times are within the ten minutes.
    """
    since = f'ALERTS_FOR_STATE{{alertname="{name}"}}[10m]'
    twice = f"changes({since}) > 0 and min_over_time({since}) > time() - 600"
    return Check(seconds, f"count_over_time(({twice})[{int(seconds)}s:{SCRAPE_SECONDS}s])")


def settings(rules: Iterable[str]) -> dict[str, Any]:
    """The part of a test file of promtool before its tests: it loads these files of rules."""
    loaded = tuple(rules)
    return {
        "rule_files": [RULE_FILES[name] for name in loaded],
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "group_eval_order": [f"rl-{name}" for name in _GROUPS if name in loaded],
    }


def group(case: Case) -> dict[str, Any]:
    """One test of promtool."""
    every = {**series(*case.runs, seconds=case.seconds), **case.extra}
    test: dict[str, Any] = {
        "name": case.name,
        "interval": f"{SCRAPE_SECONDS}s",
        "input_series": [{"series": name, "values": values} for name, values in sorted(every.items())],
        "promql_expr_test": [_check(check) for check in case.checks],
    }
    if case.alerts:
        test["alert_rule_test"] = list(case.alerts)
    return test


def _check(check: Check) -> dict[str, Any]:
    samples = [{"labels": selector("", labels) or "{}", "value": value} for labels, value in check.expected]
    return {"expr": check.expression, "eval_time": f"{int(check.at)}s", "exp_samples": samples}
