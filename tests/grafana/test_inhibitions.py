"""Dashboards count the alerts that Alertmanager lets through, for every pair of alerts."""

import json
import subprocess
from itertools import combinations, product

from rl_dashboards import alert_queries
from tests.support.shipped_alerts import alert_rules, inhibited, inhibitions

OF_RUNS = {"RLPolicyHeadsMissing"}
"""The one alert on policies that is not about one of the heads."""
ALWAYS_FIRES = "RLMonitoringWatchdog"
CLUSTERS = ("", "west")
ANY_RUN = 'run_id=~".+"'


def heads_of(name):
    return ("op", "slot") if name.startswith("RLPolicy") and name not in OF_RUNS else ("",)


def pairs():
    """Two alerts that fire in one run, or in runs of one name in two clusters, beside nothing else."""
    alerts = [
        {"alertname": rule["alert"], "severity": rule["labels"]["severity"], "head": head}
        for rule in alert_rules()
        if rule["alert"] != ALWAYS_FIRES
        for head in heads_of(rule["alert"])
    ]
    for number, ((one, other), cluster) in enumerate(product(combinations(alerts, 2), CLUSTERS)):
        run = {"run_id": f"run-{number}"}
        yield one | run | {"cluster": "west"}, other | run | {"cluster": cluster}


def written(labels):
    inside = ", ".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if value)
    return f"{{{inside}}}"


def asked(given, rules):
    """A test of promtool: all of these pairs fire, and those that Alertmanager lets through are counted."""
    notifying = [
        target
        for pair in given
        for source, target in (pair, pair[::-1])
        if not inhibited(rules, source, target)
    ]
    firing = [f"ALERTS{written(labels | {'alertstate': 'firing'})}" for pair in given for labels in pair]
    query = {
        "expr": f"count by (alertname, severity, head, run_id, cluster) ({alert_queries.notifying(ANY_RUN)})",
        "eval_time": "1m",
        "exp_samples": [{"labels": written(labels), "value": 1} for labels in notifying],
    }
    series = [{"series": one, "values": "1 1"} for one in firing]
    return {"interval": "1m", "input_series": series, "promql_expr_test": [query]}


def test_dashboards_count_what_alertmanager_lets_through(promtool, tmp_path):
    # promtool loads no more than 10,000 samples for a query.
    every, rules = list(pairs()), inhibitions()
    tests = [asked(every[first : first + 200], rules) for first in range(0, len(every), 200)]
    inhibited_ones = sum(
        len(test["input_series"]) - len(test["promql_expr_test"][0]["exp_samples"]) for test in tests
    )
    assert inhibited_ones > 50
    path = tmp_path / "test.yml"
    path.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": tests}))
    result = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[:4000]
