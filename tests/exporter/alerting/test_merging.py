"""Fragments go into configurations that exist, line by line; a clash of names is one line and nothing written."""

import re
from pathlib import Path

import pytest
import yaml

from rl_exporter.cli.main import main
from tests.support import ROOT
from tests.support.foreign_servers import ALERTMANAGER, PROMETHEUS
from tests.support.merged_bundles import FORMS, REFUSED, bundle, foreign_configurations, loaded

DATA = ROOT / "alerts/rules"


@pytest.fixture
def foreign(tmp_path):
    return foreign_configurations(tmp_path)


def test_what_exists_keeps_every_line(foreign):
    assert bundle(foreign) == 0
    for name, text in (("prometheus", PROMETHEUS), ("alertmanager", ALERTMANAGER)):
        lines = iter((foreign / f"out/{name}/{name}.yml").read_text().splitlines())
        # A list on one line is continued on it.
        theirs = [line for line in text.splitlines() if line != "templates: [web/*.tmpl]"]
        assert all(line in lines for line in theirs), "a line of theirs is gone, or moved"


def test_what_is_merged_is_what_the_fragments_say(foreign):
    assert bundle(foreign, "--label", "team=rl") == 0
    for name in ("prometheus", "alertmanager"):
        whole, part = loaded(foreign, f"{name}/{name}.yml"), loaded(foreign, f"fragments/{name}.yml")
        theirs = yaml.safe_load((foreign / f"{name}.yml").read_text())
        if "route" in part:
            assert whole["route"].pop("routes") == [
                *part.pop("route")["routes"],
                *theirs["route"].pop("routes"),
            ]
        for key, items in part.items():
            assert whole.pop(key) == [*items, *theirs.pop(key, [])], key
        assert whole == theirs
    [route] = loaded(foreign, "fragments/alertmanager.yml")["route"]["routes"]
    assert route["matchers"] == ['alertname=~"RL(Policy|Training|Exporter|Monitoring).+"', 'team="rl"']


@pytest.mark.parametrize("form", FORMS)
def test_lists_in_every_form_are_continued_or_refused(tmp_path, capsys, form):
    (tmp_path / "prometheus.yml").write_bytes(FORMS[form].encode())
    status = bundle(tmp_path, merge=["prometheus"])
    if form in REFUSED:
        assert status == 2
        assert "is written in a way that this cannot continue; leave the option out" in capsys.readouterr().err
        return
    assert status == 0
    whole, theirs = loaded(tmp_path, "prometheus/prometheus.yml"), yaml.safe_load(FORMS[form])
    assert whole["rule_files"] == ["rl/rules/*.yml", *(theirs.get("rule_files") or [])]
    assert whole["scrape_configs"][0]["job_name"] == "rl-training"
    assert whole.get("global") == theirs.get("global")


@pytest.mark.parametrize("form", ["route: {receiver: x}\n", "route:\n  receiver: x\n", "route:\n  receiver: x\n  routes:\n"])  # fmt: skip
def test_a_route_without_routes_gets_ours(tmp_path, form):
    (tmp_path / "alertmanager.yml").write_text(f"{form}receivers:\n  - name: x\n")
    status = bundle(tmp_path, merge=["alertmanager"])
    if "{" in form:
        assert status == 2
        return
    assert [
        one["receiver"] for one in loaded(tmp_path, "alertmanager/alertmanager.yml")["route"]["routes"]
    ] == ["rl-training-warning"]


@pytest.mark.parametrize(
    ("file", "before", "after", "reason"),
    [
        ("prometheus.yml", "job_name: web", "job_name: rl-training", "has a job 'rl-training' already; give --job with another name"),
        ("alertmanager.yml", "name: web-pager", "name: rl-training-critical", "has a receiver 'rl-training-critical' already; give --job"),
        ("web.yml", "name: web", "name: rl-heads", "has a group 'rl-heads' already; rename it"),
        ("prometheus.yml", "scrape_configs:", "scrape_configs: {", "prometheus.yml', line"),
        ("alertmanager.yml", ALERTMANAGER, "global: {}", "has no route; give the configuration of an Alertmanager"),
        ("alertmanager.yml", ALERTMANAGER, "- a\n- b\n", "is no configuration: it holds no keys"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_one_line_and_nothing_written(foreign, capsys, file, before, after, reason):
    text = (foreign / file).read_text()
    assert before in text
    (foreign / file).write_text(text.replace(before, after))
    assert bundle(foreign) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert not (foreign / "out").exists()


def test_another_name_avoids_the_clash(foreign):
    text = PROMETHEUS.replace("job_name: web", "job_name: rl-training")
    (foreign / "prometheus.yml").write_text(text)
    assert bundle(foreign, "--job", "rl-runs") == 0
    jobs = [job["job_name"] for job in loaded(foreign, "prometheus/prometheus.yml")["scrape_configs"]]
    assert jobs[:2] == ["rl-runs", "rl-training"]
    names = [receiver["name"] for receiver in loaded(foreign, "alertmanager/alertmanager.yml")["receivers"]]
    assert names[:4] == ["rl-runs-critical", "rl-runs-warning", "rl-runs-watchdog", "rl-runs-nobody"]
    rule = (foreign / "out/prometheus/rl/rules/monitoring.yml").read_text()
    assert 'receiver_name=~"|(.+/)?(rl-runs-critical|rl-runs-warning|rl-runs-watchdog)"' in rule
    scraped = (foreign / "out/prometheus/rl/rules/runs.yml").read_text()
    assert 'up{job="rl-runs"}' in scraped
    assert "rl-training" not in scraped
    written = {path: path.read_text() for path in (foreign / "out").rglob("*.*")}
    for suffix, quote in ((".json", '\\"'), (".md", '"')):
        queries = "".join(text for path, text in written.items() if path.suffix == suffix)
        assert f"job={quote}rl-runs{quote}" in queries
        assert f"job={quote}rl-training" not in queries


def test_a_file_that_is_not_there_is_one_line(tmp_path, capsys):
    assert bundle(tmp_path, merge=["prometheus"]) == 2
    said = capsys.readouterr().err
    assert "prometheus.yml': No such file or directory; give the configuration to merge into\n" in said


def alert_rules(folder):
    for path in folder.rglob("*.y*ml"):
        document = yaml.safe_load(path.read_text())
        groups = document.get("groups") or document.get("spec", {}).get("groups", [])
        yield from (rule for group in groups for rule in group["rules"] if "alert" in rule)


@pytest.mark.parametrize("into", ["new", "existing"])
def test_every_alert_gets_the_labels(tmp_path, into):
    arguments = ["--label", "team=rl", "--label", "tier=o'ne: #two"]
    assert main(["bundle", "--out", str(tmp_path / "out"), "--into", into, *arguments]) == 0
    plain = {rule["alert"]: rule["labels"] for rule in alert_rules(ROOT / "alerts/rules")}
    labels = [(rule["alert"], rule["labels"]) for rule in alert_rules(tmp_path / "out")]
    assert len(labels) == 2 * len(plain)
    assert {"RLMonitoringWatchdog", "RLMonitoringRuleFailures"} < plain.keys()
    for name, given in labels:
        assert given == {**plain[name], "team": "rl", "tier": "o'ne: #two"}


def test_a_run_is_scraped_within_its_shortest_linger_whatever_their_interval(foreign):
    """Their default is a minute: the end of a run that lingers for 25 s would not be seen, and page as a loss."""
    (foreign / "prometheus.yml").write_text(PROMETHEUS.replace("scrape_interval: 15s", "scrape_interval: 1m"))
    assert bundle(foreign) == 0
    ours = loaded(foreign, "prometheus/prometheus.yml")["scrape_configs"][0]
    shipped = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    monitor = yaml.safe_load((ROOT / "deploy/kubernetes/podmonitor.yaml").read_text())
    assert {ours["scrape_interval"], shipped, monitor["spec"]["podMetricsEndpoints"][0]["interval"]} == {"15s"}
    scripts = "".join(path.read_text() for path in (ROOT / "deploy").rglob("*.sbatch"))
    lingers = [int(seconds) for seconds in re.findall(r"--linger[ =](\d+)", scripts)]
    assert lingers
    assert min(lingers) > 15 + 5  # the time that Prometheus needs to notice a change of its targets


def test_rules_for_existing_servers_have_an_interval_of_their_own(foreign):
    assert bundle(foreign) == 0
    for path in (foreign / "out/prometheus/rl/rules").iterdir():
        for group in yaml.safe_load(path.read_text())["groups"]:
            trends = {"rl-entropy": "1m", "rl-heads-trends": "1m"}
            assert group["interval"] == trends.get(group["name"], "15s")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("team", "'team' is not NAME=VALUE; write for example team=rl"),
        ("severity=page", "label 'severity' is not possible: rules and routes rest on it"),
        ("cluster=a", "label 'cluster' is not possible"),
        ("run_id=a", "label 'run_id' is not possible"),
        ("head=a", "label 'head' is not possible"),
        ("my-team=a", "label 'my-team' is not possible: a name has letters"),
        ("team=", "label 'team' is not possible: it is empty"),
        ("team={{ $value }}", "label 'team' is not possible: its value is a template"),
    ],
)
def test_a_label_that_would_break_something_is_refused(tmp_path, capsys, label, reason):
    with pytest.raises(SystemExit) as ended:
        main(["bundle", "--out", str(tmp_path / "out"), "--label", label])
    assert ended.value.code == 2
    assert f"argument --label: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--label", "a=b", "--label", "a=c"], "--label names 'a' twice; give each label once"),
        (
            ["--prometheus", "x.yml"],
            "--prometheus and --alertmanager name what to merge into; add --into existing",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path, capsys, arguments, reason):
    assert main(["bundle", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert capsys.readouterr().err == f"rl-exporter: error: {reason}\n"


@pytest.mark.parametrize("kind", ["pages", "slack", "pagerduty", "email", "teams", "webhook"])
@pytest.mark.parametrize("into", ["new", "existing"])
def test_the_rules_look_at_what_the_receivers_use(tmp_path, kind, into):
    assert main(["bundle", "--out", str(tmp_path / "out"), "--into", into, "--receiver", kind]) == 0
    new = into == "new"
    rules = tmp_path / "out" / ("alerts/rules/monitoring.yml" if new else "prometheus/rl/rules/monitoring.yml")
    looked = re.search(r'integration=~"([\w|]+)"', rules.read_text())[1].split("|")
    servers = tmp_path / "out" / ("alerts/alertmanager.yml" if new else "fragments/alertmanager.yml")
    receivers = yaml.safe_load(servers.read_text())["receivers"]
    used = {key.removesuffix("_configs") for receiver in receivers for key in receiver if key != "name"}
    assert set(looked) == used
    expected = {"pages": {"webhook"}, "pagerduty": {"pagerduty", "webhook"}, "teams": {"webhook"}}.get(
        kind, {kind}
    )
    assert used == expected
    manifest = (tmp_path / "out/deploy/kubernetes/rules/monitoring.yaml").read_text()
    assert set(re.search(r'integration=~"([\w|]+)"', manifest)[1].split("|")) == used | {"webhook"}
    if new:
        assert yaml.safe_load(servers.read_text())["templates"] == ["templates/*.tmpl"]


def test_the_folders_of_a_bundle_hold_what_the_merged_files_name(foreign):
    assert bundle(foreign) == 0
    prometheus = loaded(foreign, "prometheus/prometheus.yml")
    assert len(list((foreign / "out/prometheus").glob(prometheus["rule_files"][0]))) == 5
    [files] = prometheus["scrape_configs"][0]["file_sd_configs"][0]["files"]
    assert (foreign / "out/prometheus" / Path(files).parent).is_dir()
    template = loaded(foreign, "alertmanager/alertmanager.yml")["templates"][0]
    assert (foreign / "out/alertmanager" / template).is_file()
