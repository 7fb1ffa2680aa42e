"""The generated part of ``deploy/kubernetes`` says what its sources say."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rl_exporter.cli.main import main as exporter
from rl_manifests.__main__ import stale, write
from rl_manifests.alertmanager import ADDRESSES
from tests.support.kubernetes_files import FOLDER, MANIFESTS, ROOT

SOURCES = {path.stem: path for path in [*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml")]}
PROMETHEUS = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())


def test_the_committed_files_are_what_their_sources_give(tmp_path):
    assert stale() == [], "run make kubernetes"
    copy = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    changed = copy / "rules/heads.yaml"
    changed.write_text(changed.read_text().replace(">= 2\n", "> 2\n", 1))
    (copy / "dashboards/rl-more.yaml").write_text("")
    (copy / "alertmanager/config.yaml").unlink()
    assert stale(copy) == ["alertmanager/config.yaml", "dashboards/rl-more.yaml", "rules/heads.yaml"]
    write(copy)
    assert stale(copy) == []
    assert (copy / "example/job.yaml").read_text() == (FOLDER / "example/job.yaml").read_text()


def test_every_rule_is_there_unchanged_and_at_the_interval_of_the_promises():
    assert {f"rules/{name}.yaml" for name in SOURCES} == {
        name for name in MANIFESTS if name.startswith("rules/")
    }
    for name, path in SOURCES.items():
        default = {"interval": PROMETHEUS["global"]["evaluation_interval"]}
        groups = [default | group for group in yaml.safe_load(path.read_text())["groups"]]
        assert MANIFESTS[f"rules/{name}.yaml"]["spec"]["groups"] == groups


def test_every_dashboard_is_there_unchanged_and_labelled_for_the_sidecar():
    dashboards = {path.name: json.loads(path.read_text()) for path in ROOT.glob("grafana/dashboards/*.json")}
    found = [MANIFESTS[f"dashboards/{Path(name).stem}.yaml"] for name in dashboards]
    held = {name: json.loads(text) for document in found for name, text in document["data"].items()}
    assert held == dashboards
    assert all(document["metadata"]["labels"]["grafana_dashboard"] == "1" for document in found)


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubectl_can_keep_it_in_its_annotation(name):
    """Kubernetes takes 1 MiB for an object and 256 KiB for all of its annotations together."""
    assert len(json.dumps(MANIFESTS[name])) < 224 * 2**10


def read_back(node):
    """An AlertmanagerConfig's part as Alertmanager's own configuration says it."""
    if isinstance(node, list):
        return [read_back(part) for part in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"name", "matchType", "value"}:
        return f'{node["name"]}{node["matchType"]}"{node["value"]}"'
    names = {
        "groupBy": "group_by",
        "groupWait": "group_wait",
        "groupInterval": "group_interval",
        "repeatInterval": "repeat_interval",
        "sourceMatch": "source_matchers",
        "targetMatch": "target_matchers",
        "inhibitRules": "inhibit_rules",
        "webhookConfigs": "webhook_configs",
        "sendResolved": "send_resolved",
        "maxAlerts": "max_alerts",
    }
    return {names.get(key, key): read_back(value) for key, value in node.items()}


def test_routes_and_inhibition_are_those_of_alertmanager_yml():
    source = yaml.safe_load((ROOT / "alerts/alertmanager.yml").read_text())
    found = read_back(MANIFESTS["alertmanager/config.yaml"]["spec"])
    assert found["route"].pop("matchers") == ['alertname=~"RL.+"']
    assert found["route"] == source["route"]
    assert found["inhibit_rules"] == source["inhibit_rules"]
    addresses = [
        hook.pop("urlSecret") for receiver in found["receivers"] for hook in receiver.get("webhook_configs", [])
    ]
    assert addresses == [{"name": ADDRESSES, "key": key} for key in ("critical", "warning", "watchdog")]
    for receiver in source["receivers"]:
        for hook in receiver.get("webhook_configs", []):
            del hook["url"]
    assert found["receivers"] == source["receivers"]


def test_a_bundle_brings_them_with_its_links(tmp_path):
    links = ["--grafana-url", "https://grafana.example.org", "--runbook-url", "https://wiki.example.org/rl"]
    assert exporter(["bundle", "--out", str(tmp_path / "bundle"), *links]) == 0
    folder = tmp_path / "bundle/deploy/kubernetes"
    assert {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.yaml")} == {
        str(path.relative_to(folder)) for path in folder.rglob("*.yaml")
    }
    for group in yaml.safe_load((folder / "rules/training.yaml").read_text())["spec"]["groups"]:
        for rule in filter(lambda rule: "alert" in rule, group["rules"]):
            assert rule["annotations"]["runbook_url"].startswith("https://wiki.example.org/rl/RL")
            assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example.org/d/rl-")
