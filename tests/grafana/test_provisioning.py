"""What Grafana is given: one data source, one folder of dashboards, nothing that a browser could change."""

import re

import yaml

from tests.support.dashboard_files import BOARDS, ROOT

PROVISIONING = ROOT / "grafana/provisioning"


def read(name):
    return yaml.safe_load((PROVISIONING / name).read_text())


def test_the_data_source_is_pinned_and_takes_its_address_from_the_environment():
    (source,) = read("datasources/prometheus.yml")["datasources"]
    assert source["uid"] == "rl-prometheus"
    assert source["url"] == "${PROMETHEUS_URL}"
    assert source["isDefault"]
    assert not source["editable"]
    scrapes = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrapes


def test_dashboards_are_read_only_and_come_from_a_folder():
    (provider,) = read("dashboards/rl.yml")["providers"]
    assert provider["options"]["path"] == "${RL_DASHBOARDS}"
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)
    assert not any(board["editable"] for board in BOARDS.values())


def test_whoever_starts_grafana_sets_what_provisioning_reads():
    names = {
        name for path in PROVISIONING.rglob("*.yml") for name in re.findall(r"\$\{(\w+)\}", path.read_text())
    }
    environment = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"][
        "environment"
    ]
    assert names == {"PROMETHEUS_URL", "RL_DASHBOARDS"} <= set(environment)


def test_the_comment_says_where_the_source_is():
    comments = " ".join(re.findall(r"^# (.*)$", (PROVISIONING / "dashboards/rl.yml").read_text(), re.MULTILINE))
    [source] = re.findall(r"Their source is (\S+?)\. ", comments)
    assert (ROOT / source / "heads_dashboard.py").is_file()


def test_the_documentation_counts_the_dashboards():
    [said] = re.findall(r"the (\w+) Grafana dashboards", (ROOT / "docs/README.md").read_text())
    assert {"four": 4, "five": 5, "six": 6}[said] == len(BOARDS)
