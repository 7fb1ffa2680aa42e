"""Replays a run through promtool and the shipped rules, to hold the replay in Python to them."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cohort_runs.log import RunLog
from benchmarks.cohort_runs.replay import Rule, replay, with_tail
from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.histogram import Histogram
from rl_exporter.metrics import LIVE_METRICS, UPDATE_METRICS
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import RunInfo, SanctumSnapshot
from tests.alerts.rule_cases.notation import GAP, STALE, Value, compressed, selector

SCRAPE_SECONDS = 15
RULES = ("prometheus/rules/entropy.yml", "alerts/rules/heads.yml")
_ALERTS: Mapping[Rule, str] = {Rule.VERDICT: "RLPolicyHeadCollapsed", Rule.WARNING: "RLPolicyHeadEntropyLow"}
_RUN = "cohort"


def difference(log: RunLog, period: float, promtool: Path, root: Path, folder: Path) -> str:
    """What the rules did otherwise than the replay; empty where they agree. ``root`` is that of the project."""
    test = folder / "cohort.yml"
    document = {
        "rule_files": [str(root / name) for name in RULES],
        "evaluation_interval": f"{SCRAPE_SECONDS}s",
        "group_eval_order": ["rl-entropy", "rl-heads"],
        "tests": [_case(log, period)],
    }
    test.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper, width=10_000), encoding="utf-8")
    done = subprocess.run([promtool, "test", "rules", test], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _case(log: RunLog, period: float) -> dict[str, Any]:
    columns, seconds = _columns(log, period)
    fired = replay(log, period)
    expected = [
        {"labels": selector("", {"alertname": _ALERTS[rule], "head": head}), "value": 1}
        for rule, head in fired
        if rule in _ALERTS
    ]
    alerts = "|".join(_ALERTS.values())
    ever = f'count_over_time(ALERTS{{alertstate="firing", alertname=~"{alerts}"}}[{seconds}s])'
    return {
        "interval": f"{SCRAPE_SECONDS}s",
        "input_series": [{"series": name, "values": compressed(row)} for name, row in sorted(columns.items())],
        "promql_expr_test": [
            {
                "expr": f"group by (alertname, head) ({ever})",
                "eval_time": f"{seconds}s",
                "exp_samples": expected,
            }
        ],
    }


def _columns(log: RunLog, period: float) -> tuple[dict[str, list[Value]], int]:
    """What each scrape stores, and the time of the last one."""
    shown = list(_scrapes(log, period))
    columns: dict[str, list[Value]] = defaultdict(lambda: [GAP] * len(shown))
    before: Mapping[str, float] = {}
    for tick, samples in enumerate(shown):
        for name, value in samples.items():
            columns[name][tick] = value
        for name in before.keys() - samples.keys():
            columns[name][tick] = STALE
        before = samples
    return columns, SCRAPE_SECONDS * (len(shown) - 1)


def _scrapes(log: RunLog, period: float) -> Iterator[Mapping[str, float]]:
    clock = [0.0]
    aggregator = SanctumAggregator(log.heads, RunInfo(_RUN), clock=lambda: clock[0])
    number, tick = 0, 0
    for update in with_tail(log.updates, period):
        number += 1
        while tick * SCRAPE_SECONDS < number * period:
            yield _samples(aggregator.snapshot())
            tick += 1
        clock[0] = number * period
        aggregator.handle_ppo_update(PPOUpdatePayload(heads=update.heads))
    # The last update stands until the next would come.
    while tick * SCRAPE_SECONDS < (number + 1) * period:
        yield _samples(aggregator.snapshot())
        tick += 1


def _samples(snapshot: SanctumSnapshot) -> dict[str, float]:
    target = {"job": "rl-training", "instance": "host:28008", "run_id": _RUN}
    found: dict[str, float] = {}
    for metric in (*UPDATE_METRICS, *LIVE_METRICS):
        for labels, value in metric.read(snapshot):
            if not isinstance(value, Histogram):
                named = dict(zip(metric.labels, labels, strict=True))
                found[selector(metric.name, {**target, **named})] = value
    return found
