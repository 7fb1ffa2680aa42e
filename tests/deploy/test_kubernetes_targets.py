"""Which pods the PodMonitor has Prometheus scrape, and under which labels: the operator's configuration, Prometheus' code."""

import json
import subprocess

import pytest
import yaml

from tests.support.kubernetes_files import ROOT, of_kind

OPERATORS = yaml.safe_load((ROOT / "tests/deploy/operator/scrape.yml").read_text().replace("$(SHARD)", "0"))
(SCRAPE,) = OPERATORS["scrape_configs"]
(ENDPOINT,) = of_kind("PodMonitor")["spec"]["podMetricsEndpoints"]

KEYS = {"sourceLabels": "source_labels", "targetLabel": "target_label"}


def test_the_operators_configuration_is_of_the_pod_monitor_as_it_is():
    assert SCRAPE["scrape_interval"] == ENDPOINT["interval"]
    assert SCRAPE["scrape_timeout"] == ENDPOINT["scrapeTimeout"]
    own = [{KEYS.get(key, key): value for key, value in part.items()} for part in ENDPOINT["relabelings"]]
    start = SCRAPE["relabel_configs"].index(own[0])
    assert SCRAPE["relabel_configs"][start : start + len(own)] == own
    ((name, value),) = of_kind("PodMonitor")["spec"]["selector"]["matchLabels"].items()
    label = name.translate(str.maketrans("./-", "___"))
    assert {
        "action": "keep",
        "source_labels": [
            f"__meta_kubernetes_pod_label_{label}",
            f"__meta_kubernetes_pod_labelpresent_{label}",
        ],
        "regex": f"({value});true",
    } in SCRAPE["relabel_configs"]


def pod(name, index=None, **changed):
    """A target as discovery finds it; ``changed`` are meta labels, without their common prefix."""
    meta = {
        "namespace": "rl",
        "pod_name": name,
        "pod_phase": "Running",
        "pod_container_name": "trainer",
        "pod_container_port_name": "metrics",
        "pod_label_app_kubernetes_io_name": "rl-train",
        "pod_labelpresent_app_kubernetes_io_name": "true",
        "pod_label_cluster": "lab",
        **({"pod_label_batch_kubernetes_io_job_completion_index": index} if index else {}),
        **changed,
    }
    return {
        "targets": [f"{name}:28008"],
        "labels": {f"__meta_kubernetes_{key}": value for key, value in meta.items()},
    }


def scraped(promtool, folder, pods):
    """Labels of the targets that are left of these pods, by pod."""
    (folder / "pods.json").write_text(json.dumps(pods))
    scrape = {key: value for key, value in SCRAPE.items() if key != "kubernetes_sd_configs"}
    scrape["file_sd_configs"] = [{"files": [str(folder / "pods.json")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    command = [
        promtool,
        "check",
        "service-discovery",
        "--timeout=2s",
        folder / "prometheus.yml",
        SCRAPE["job_name"],
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    labels = [found["labels"] for found in json.loads(done.stdout) if found.get("labels")]
    return {
        target["pod"]: {name: value for name, value in target.items() if not name.startswith("__")}
        for target in labels
    }


@pytest.mark.stack
def test_one_pod_a_run_is_scraped_under_its_own_labels(promtool, tmp_path):
    pods = [
        pod("grasp-0-abc", "0"),
        pod("grasp-1-def", "1"),
        pod("grasp-10-ghi", "10"),
        pod("single", pod_label_cluster=""),
        pod("done-0-jkl", "0", pod_phase="Succeeded"),
        pod("other", "0", pod_label_app_kubernetes_io_name="other"),
        pod("sidecar-0-mno", "0", pod_container_port_name="http"),
    ]
    found = scraped(promtool, tmp_path, pods)
    assert set(found) == {"grasp-0-abc", "single"}
    assert found["grasp-0-abc"] == {
        "job": "rl-training",
        "instance": "grasp-0-abc:28008",
        "cluster": "lab",
        "namespace": "rl",
        "pod": "grasp-0-abc",
        "container": "trainer",
        "endpoint": "metrics",
    }
    assert "cluster" not in found["single"]
