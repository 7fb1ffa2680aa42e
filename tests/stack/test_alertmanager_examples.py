"""The shipped configurations as files: amtool and promtool take them, and examples differ in their receivers only."""

import re
import subprocess

import pytest
import yaml

from rl_exporter.cli.main import main as exporter
from tests.support import ROOT
from tests.support.shipped_alerts import CONFIGURATION

pytestmark = pytest.mark.stack

EXAMPLES = sorted((ROOT / "alerts/examples").glob("*.yml"))
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def check_config(amtool, path):
    return subprocess.run([amtool, "check-config", path], capture_output=True, text=True, check=False)


def test_amtool_accepts_the_configuration(amtool, tmp_path):
    checked = check_config(amtool, CONFIGURATION)
    assert checked.returncode == 0, checked.stderr
    broken = tmp_path / "alertmanager.yml"
    broken.write_text(CONFIGURATION.read_text().replace("receiver: nobody", "receiver: somebody"))
    assert check_config(amtool, broken).returncode != 0


def integrations(receiver):
    return {key.removesuffix("_configs") for key in receiver if key != "name"}


@each_example
def test_amtool_accepts_an_example_alone(amtool, tmp_path, example):
    path = tmp_path / "alertmanager.yml"
    path.write_text(example.read_text())
    checked = check_config(amtool, path)
    assert checked.returncode == 0, checked.stderr
    assert not re.search(r"(password|routing_key|api_url): ", example.read_text())
    path.write_text(example.read_text().replace("- name: watchdog", "- name: dog"))
    assert check_config(amtool, path).returncode != 0


def without_receivers(path):
    document = yaml.safe_load(path.read_text())
    (watchdog,) = [part for part in document["route"]["routes"] if part["receiver"] == "watchdog"]
    return {**document, "receivers": None, "templates": None}, watchdog.pop("repeat_interval")


@each_example
def test_an_example_differs_from_the_configuration_in_its_receivers_only(example):
    ours, often = without_receivers(CONFIGURATION)
    theirs, watchdog = without_receivers(example)
    assert theirs == ours
    receivers = {found["name"]: found for found in yaml.safe_load(example.read_text())["receivers"]}
    assert receivers.keys() == {"critical", "warning", "watchdog", "nobody"}
    assert all(integrations(receivers[name]) for name in ("critical", "warning", "watchdog"))
    # People read what does not come to a heartbeat monitor.
    assert watchdog == (often if "webhook" in integrations(receivers["watchdog"]) else "24h")


@each_example
def test_an_example_says_which_integrations_the_alert_on_delivery_looks_at(example, promtool, tmp_path):
    assert exporter(["bundle", "--out", str(tmp_path / "out"), "--receiver", example.stem]) == 0
    rules = (tmp_path / "out/alerts/rules/monitoring.yml").read_text()
    (tmp_path / "monitoring.yml").write_text(rules)
    used = set().union(*map(integrations, yaml.safe_load(example.read_text())["receivers"]))
    every = {"webhook", "slack", "pagerduty", "email", "opsgenie"}
    assert used <= every
    series = 'alertmanager_notifications_failed_total{{instance="a",integration="{0}"}}'
    fires = 'group by (integration) (ALERTS{alertstate="firing",alertname="RLMonitoringRuleFailures"})'
    check = {
        "expr": fires,
        "eval_time": "15m",
        "exp_samples": [{"labels": f'{{integration="{name}"}}', "value": 1} for name in used],
    }
    broken = [{"series": series.format(name), "values": "0x9 1x90"} for name in sorted(every)]
    test = {"interval": "15s", "input_series": broken, "promql_expr_test": [check]}
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["monitoring.yml"], "evaluation_interval": "15s", "tests": [test]})
    )
    tested = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_promtool_accepts_the_configuration(promtool):
    checked = subprocess.run(
        [promtool, "check", "config", ROOT / "prometheus/prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    rules = [*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml")]
    assert f"SUCCESS: {len(rules)} rule files found" in checked.stdout
