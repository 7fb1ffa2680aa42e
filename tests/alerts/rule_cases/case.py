"""A case: simulated runs, and the results that the rules must have at certain times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS, Run

RULE_FILES: Mapping[str, str] = MappingProxyType(
    {
        "entropy": "../../prometheus/rules/entropy.yml",
        "runs": "../../prometheus/rules/runs.yml",
        "heads": "../rules/heads.yml",
        "training": "../rules/training.yml",
        "monitoring": "../rules/monitoring.yml",
    }
)
"""Paths of the rule files, relative to the test files."""

# Alerts before recording rules, so that an alert reads what was recorded one interval earlier: Prometheus
# evaluates groups independently, and this is the worst order.
_GROUPS = {
    "heads": ("rl-heads", "rl-heads-trends"),
    "training": ("rl-training",),
    "monitoring": ("rl-monitoring",),
    "entropy": ("rl-entropy", "rl-entropy-conditions"),
    "runs": ("rl-runs",),
}
"""Groups by rule file."""

OWN = "$own"
"""Stands in each selector of a check for the matcher of what belongs to its case."""

_FIRING = f'ALERTS{{alertstate="firing", severity!="info", alertname!~"RLMonitoring.+", {OWN}}}'
_BY = "alertname, run_id, head"


Expected = tuple[tuple[Mapping[str, str], float], ...]
"""Values by label set."""

Alerts = tuple[Mapping[str, str], ...]


class Claim(NamedTuple):
    """What a check says about alerts, for a judge that is not Prometheus.

    ``exactly``: these fire, and no others that page. ``ever``: these, and no others, fired between ``since`` and
    the time of the check. ``fires`` and ``silent``: an alert of this name does, or does not. ``throughout``: an
    alert of this name fires all the time from ``since`` on. ``once``: it opens at most once in ten minutes.
    """

    kind: str
    alerts: Alerts = ()
    name: str = ""
    since: float = 0.0


@dataclass(frozen=True)
class Check:
    """An expression, each of whose selectors contains ``OWN``, with its exact result at one time."""

    at: float
    expression: str
    expected: Expected = ()
    claim: Claim | None = None


@dataclass(frozen=True)
class Case:
    """One simulated situation. The names of all cases differ."""

    name: str
    runs: tuple[Run, ...]
    seconds: float
    checks: tuple[Check, ...]
    extra: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[Mapping[str, Any], ...] = ()
    """Tests of complete alerts with annotations, in promtool's format."""
    alone: bool = False
    """Whether it shares no test group, because it asserts labels or texts that the label of a group changes."""


def alert(name: str, head: str = "", run_id: str = "a") -> Mapping[str, str]:
    """The labels that identify a firing alert in a check."""
    return {"alertname": name, **({"run_id": run_id} if run_id else {}), **({"head": head} if head else {})}


def firing(at: float, *alerts: Mapping[str, str]) -> Check:
    """Exactly these alerts fire, except for those of severity info and about the monitoring."""
    found: Expected = tuple((labels, 1.0) for labels in alerts)
    return Check(at, f"group by ({_BY}) ({_FIRING})", found, Claim("exactly", alerts))


def is_firing(at: float, name: str, count: int = 1) -> Check:
    """Exactly ``count`` alerts of this name fire. Others may fire too."""
    found: Expected = (({}, float(count)),) if count else ()
    claim = Claim("fires" if count else "silent", name=name)
    return Check(at, f'count(ALERTS{{alertstate="firing", alertname="{name}", {OWN}}})', found, claim)


def nothing_at_all(seconds: float, since: float) -> Check:
    """No alert, not even of severity info, has fired between ``since`` and ``seconds``."""
    every = f'ALERTS{{alertstate="firing", alertname!~"RLMonitoring.+", {OWN}}}'
    claim = Claim("ever", since=since)
    return Check(seconds, f"count(count_over_time({every}[{int(seconds - since)}s]))", claim=claim)


def ever(seconds: float, *alerts: Mapping[str, str], since: float = 0) -> Check:
    """Like ``firing``, but counts alerts that fired at any time between ``since`` and ``seconds``."""
    window = int(seconds - since)
    return Check(
        seconds,
        f"group by ({_BY}) (count_over_time({_FIRING}[{window}s]))",
        tuple((labels, 1.0) for labels in alerts),
        Claim("ever", alerts, since=since),
    )


def opens_at_most_once_in_ten_minutes(seconds: float, name: str) -> Check:
    """No alert of this name opened twice within ten minutes, up to ``seconds``.

    The value of ALERTS_FOR_STATE is the time of opening. The check looks for a change between two such times
    that are both within ten minutes.
    """
    since = f'ALERTS_FOR_STATE{{alertname="{name}", {OWN}}}[10m]'
    twice = f"changes({since}) > 0 and min_over_time({since}) > time() - 600"
    claim = Claim("once", name=name)
    return Check(seconds, f"count_over_time(({twice})[{int(seconds)}s:{SCRAPE_SECONDS}s])", claim=claim)


def without_a_gap(name: str, since: float, until: float) -> Check:
    """An alert of this name fires at every evaluation from ``since`` to ``until``."""
    fires = f'group(ALERTS{{alertstate="firing", alertname="{name}", {OWN}}})'
    evaluations = (until - since) / SCRAPE_SECONDS + 1
    # A third of a step more: whether a range holds its oldest instant differs between Prometheus 2 and 3.
    window = f"{int(until - since) + SCRAPE_SECONDS // 3}s:{SCRAPE_SECONDS}s"
    claim = Claim("throughout", name=name, since=since)
    return Check(until, f"count_over_time({fires}[{window}])", (({}, evaluations),), claim)


def settings(rules: Iterable[str]) -> dict[str, Any]:
    """The part of a promtool test file before its tests: it loads these rule files."""
    loaded = tuple(rules)
    return {
        "rule_files": [RULE_FILES[name] for name in loaded],
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "group_eval_order": [group for name, groups in _GROUPS.items() if name in loaded for group in groups],
    }
