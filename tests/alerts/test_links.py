"""Every alert has what a person needs, and every link leads somewhere."""

import re
from urllib.parse import urlsplit

import pytest
import yaml

from rl_exporter.alerting.bundle import runbook
from rl_exporter.alerting.rewriting import GRAFANA_URL, RUNBOOK_URL
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from tests.support import ROOT
from tests.support.shipped_alerts import alert_rules

RULES = {rule["alert"]: rule for rule in alert_rules()}
SEVERITIES = {  # as the table of docs/alerts.md says
    "RLPolicyHeadCollapsed": "critical",
    "RLPolicyHeadEntropyLow": "warning",
    "RLPolicyHeadSettled": "info",
    "RLPolicyHeadEntropyFallingFast": "info",
    "RLPolicyHeadEntropyRising": "info",
    "RLPolicyHeadDiluted": "info",
    "RLPolicyHeadStarved": "warning",
    "RLPolicyHeadDead": "critical",
    "RLPolicyControllerSaturated": "critical",
    "RLPolicyHeadGradientsExploding": "critical",
    "RLPolicyHeadNonFinite": "warning",
    "RLPolicyHeadsMissing": "warning",
    "RLTrainingStalled": "warning",
    "RLTrainingFailed": "critical",
    "RLTrainingTargetDown": "warning",
    "RLTrainingTargetNeverUp": "warning",
    "RLTrainingVanished": "critical",
    "RLExporterRecordErrors": "warning",
    "RLMonitoringRuleFailures": "critical",
    "RLMonitoringWatchdog": "none",
}
NORMAL = {"RLPolicyHeadSettled", "RLPolicyHeadDiluted"}
"""Alerts that fire for many heads of healthy runs, for as long as these go on."""

OF_TARGETS = {"RLTrainingTargetNeverUp"}
"""Alerts on a target of which no run is known."""

UIDS = {"rl-heads", "rl-run", "rl-fleet", "rl-pipeline"}
SECTIONS = ["Meaning", "Impact", "Diagnosis", "What to do", "When it is no alarm"]


def test_every_alert_of_the_design_is_there_with_its_severity():
    assert {name: rule["labels"]["severity"] for name, rule in RULES.items()} == SEVERITIES


@pytest.mark.parametrize("name", RULES)
def test_every_alert_names_run_head_and_value_and_links_to_runbook_and_dashboard(name):
    rule = RULES[name]
    said = rule["annotations"]
    assert said["runbook_url"] == f"{RUNBOOK_URL}/{name}"
    dashboard = urlsplit(said["dashboard_url"])
    assert said["dashboard_url"].startswith(f"{GRAFANA_URL}/d/")
    assert dashboard.path.removeprefix("/d/") in UIDS
    wanted = (
        {"cluster", "namespace", "run_id"}
        if name.startswith(("RLTraining", "RLExporter")) and name not in OF_TARGETS
        else set()
    )
    if name.startswith("RLPolicy"):
        wanted = {"cluster", "namespace", "run_id", "head"}
    links = re.findall(
        r"var-(\w+)=\{\{ (?:or )?\$labels\.(\w+) (?:\"\" )?\| urlquery \}\}", said["dashboard_url"]
    )
    assert {variable for variable, label in links if variable == label} == wanted
    for text in (said["summary"], said["description"]):
        assert {f"$labels.{label}" in text for label in wanted - {"cluster", "namespace"}} <= {True}
    if name.startswith("RLPolicy"):
        assert "$value" in said["summary"]


@pytest.mark.parametrize("name", RULES)
def test_every_link_opens_the_time_of_the_event(name):
    link = RULES[name]["annotations"]["dashboard_url"]
    if name in NORMAL | {"RLMonitoringWatchdog"}:
        assert "from=" not in link
        return
    start, end = (link.partition(f"{which}=")[2].partition("&")[0] for which in ("from", "to"))
    lasts = "humanizeDuration" in RULES[name]["annotations"]["summary"]
    assert start.startswith("{{ with " + ("printf" if lasts else '"1000 * (time()')), (
        "the value is how long it lasts"
    )
    assert ("$value" in start) is lasts
    assert end.startswith('{{ with "1000 * (time() + 1800)" | query }}')


@pytest.mark.parametrize("name", sorted(NORMAL))
def test_the_text_of_an_alert_on_a_normal_state_looks_nothing_up(name):
    """Prometheus writes the text of each firing alert at each evaluation: ten queries a head, and it falls behind."""
    assert not [said for said, text in RULES[name]["annotations"].items() if re.search(r"\bquery\b", text)]
    assert RULES[name]["labels"]["severity"] == "info"


@pytest.mark.parametrize("name", ["RLTrainingFailed", "RLTrainingVanished"])
def test_the_end_of_a_run_opens_the_run(name):
    assert urlsplit(RULES[name]["annotations"]["dashboard_url"]).path == "/d/rl-run"


@pytest.mark.parametrize("name", RULES)
def test_every_alert_has_a_runbook(name):
    text = runbook(name).read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == SECTIONS
    assert all(len(part.split()) > 5 for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:])


def test_there_is_no_runbook_without_an_alert():
    assert {path.stem for path in (ROOT / "alerts/runbooks").glob("*")} == set(RULES)
    assert runbook("RLNothing") is None
    assert runbook("../rules/heads") is None


def recorded():
    files = [*ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("alerts/rules/*.yml")]
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def unknown_metrics(text):
    """Metrics of this project that a text names in queries and that neither exporter nor rules have."""
    families = {metric.name for metric in (*UPDATE_METRICS, *LIVE_METRICS)} | {
        name for name, *_ in SELF_METRICS
    }
    known = (
        families
        | {f"{name}{suffix}" for name in families for suffix in ("_sum", "_count", "_bucket")}
        | recorded()
    )
    return set(re.findall(r"(?<![\w:])(?:(?:head|global|run):)?rl_\w+(?::\w+)?", text)) - known


def test_rules_and_runbooks_name_only_metrics_that_exist():
    for path in (
        *ROOT.glob("prometheus/rules/*.yml"),
        *ROOT.glob("alerts/rules/*.yml"),
        *ROOT.glob("alerts/runbooks/*.md"),
    ):
        assert unknown_metrics(path.read_text()) == set(), path
    assert unknown_metrics("rl_policy_entropi_nats head:rl_policy_effective_entropy:ratio") == {
        "rl_policy_entropi_nats"
    }


@pytest.mark.stack
def test_the_queries_of_the_runbooks_are_valid(promtool, tmp_path):
    import subprocess

    queries = [
        line
        for path in ROOT.glob("alerts/runbooks/*.md")
        for block in re.findall(r"```promql\n(.*?)```", path.read_text(), flags=re.DOTALL)
        for line in block.strip().splitlines()
    ]
    assert len(queries) > 40
    rules = tmp_path / "queries.yml"

    def check(expressions):
        group = {
            "name": "runbooks",
            "rules": [{"record": f"r{i}", "expr": e} for i, e in enumerate(expressions)],
        }
        rules.write_text(yaml.safe_dump({"groups": [group]}))
        return subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=False)

    checked = check(queries)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert check(["rate(up)"]).returncode != 0


def test_the_page_shows_the_link_of_a_page():
    """With every variable, in the order of the rule; values of times are left out."""
    [shown] = re.findall(r"dashboard:  \S+/d/(\S+)", (ROOT / "docs/alerts.md").read_text())
    link = RULES["RLPolicyHeadCollapsed"]["annotations"]["dashboard_url"].partition("/d/")[2]
    assert re.findall(r"([\w-]+)=", shown) == re.findall(r"[?&]([\w-]+)=", link)


def test_the_page_shows_every_alert_with_its_severity_and_its_runbook():
    page = (ROOT / "docs/alerts.md").read_text()
    rows = re.findall(r"^\| \[`(RL\w+)`\]\(../alerts/runbooks/(\w+)\.md\) \| (\w+) \|", page, re.MULTILINE)
    assert {alert: severity for alert, _, severity in rows} == SEVERITIES
    assert all(alert == runbook for alert, runbook, _ in rows)
