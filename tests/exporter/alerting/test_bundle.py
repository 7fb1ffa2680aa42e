"""What ``rl-exporter bundle`` writes, and what it refuses."""

import re
from pathlib import Path

import pytest
import yaml

from rl_exporter.alerting.bundle import shipped_files
from rl_exporter.alerting.rewriting import GRAFANA_URL, REPOSITORY_URL, RUNBOOK_URL
from rl_exporter.cli.main import main
from tests.support import ROOT


def written(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()}


def as_bundled(name):
    """A file as it is shipped, but for links to what no bundle holds."""
    return (ROOT / name).read_text().replace("](../../", f"]({REPOSITORY_URL}/")


def test_a_bundle_holds_everything_as_it_is_shipped(tmp_path, capsys):
    assert main(["bundle", "--out", str(tmp_path / "bundle")]) == 0
    files = written(tmp_path / "bundle")
    assert set(files) == set(shipped_files())
    assert files == {name: as_bundled(name) for name in files}
    names = {str(name) for name in files}
    assert {"prometheus/prometheus.yml", "prometheus/rules/entropy.yml", "alerts/rules/heads.yml",
            "alerts/alertmanager.yml", "alerts/templates/rl.tmpl", "alerts/examples/slack.yml",
            "alerts/runbooks/RLPolicyHeadCollapsed.md"} <= names  # fmt: skip
    assert f"{len(files)} files" in capsys.readouterr().out


def test_links_get_the_bases_that_were_asked_for(tmp_path):
    grafana, runbooks = "https://grafana.example.org/team", "https://wiki.example.org/rl"
    arguments = ["--grafana-url", grafana + "/", "--runbook-url", runbooks]
    assert main(["bundle", "--out", str(tmp_path / "bundle"), *arguments]) == 0
    files = written(tmp_path / "bundle")
    assert not any(GRAFANA_URL in text or RUNBOOK_URL in text for text in files.values())
    rules = yaml.safe_load(files[Path("alerts/rules/heads.yml")])["groups"][0]["rules"]
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"{runbooks}/{rule['alert']}"
        assert rule["annotations"]["dashboard_url"].startswith(f"{grafana}/d/rl-heads?")
    back = {
        name: text.replace(grafana, GRAFANA_URL).replace(runbooks, RUNBOOK_URL) for name, text in files.items()
    }
    assert back == {name: as_bundled(name) for name in files}


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("precious")
    assert main(["bundle", "--out", str(tmp_path)]) == 2
    assert written(tmp_path) == {Path("mine"): "precious"}
    error = capsys.readouterr().err
    assert "is not empty" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["bundle", "--out", str(tmp_path / "file" / "below")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("url", ["grafana", "ftp://x", "https://x y", "https://{{x}}", "https://x'"])
def test_a_base_that_would_break_links_is_refused(tmp_path, url, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bundle", "--out", str(tmp_path / "bundle"), "--grafana-url", url])
    assert stopped.value.code == 2
    assert "is no base for links" in capsys.readouterr().err


def test_every_link_of_a_bundled_runbook_leads_somewhere(tmp_path):
    assert main(["bundle", "--out", str(tmp_path / "bundle")]) == 0
    found = 0
    for page in (tmp_path / "bundle/alerts/runbooks").glob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            found += 1
            local = link.removeprefix(f"{REPOSITORY_URL}/")
            assert (ROOT / local if local != link else page.parent / link).exists(), f"{page.name}: {link}"
    assert found > 50


def test_runbooks_for_existing_servers_say_what_is_there(tmp_path):
    """The labels that the route asks for; no path and no link of a layout that those servers do not have."""
    arguments = ["--into", "existing", "--label", "team=rl", "--label", "tier=a b"]
    assert main(["bundle", "--out", str(tmp_path / "bundle"), *arguments]) == 0
    files = written(tmp_path / "bundle")
    watchdog = files[Path("runbooks/RLMonitoringWatchdog.md")]
    assert "routes test alertname=RLMonitoringWatchdog severity=none team=rl 'tier=a b'\n" in watchdog
    gone = re.compile(r"(?<![\w/.])(?:prometheus|alerts)/[\w*]")
    told = {name: text for name, text in files.items() if name.suffix in {".md", ".json"}}
    shipped = {name: (ROOT / name).read_text() for name in shipped_files() if name.suffix in {".md", ".json"}}
    assert {name.name for name, text in shipped.items() if gone.search(text)} >= {"RLMonitoringRuleFailures.md"}
    assert [str(name) for name, text in told.items() if gone.search(text)] == []
    for name, text in told.items():
        for link in re.findall(r"\]\(([^)#\s]+)", text) if name.parts[0] == "runbooks" else ():
            local = link.removeprefix(f"{REPOSITORY_URL}/")
            assert (ROOT / local if local != link else tmp_path / "bundle/runbooks" / link).exists(), (
                name,
                link,
            )


def test_pages_on_the_level_alone_for_those_who_want_that(tmp_path):
    assert main(["bundle", "--out", str(tmp_path / "verdict"), "--page-on", "verdict"]) == 0
    assert main(["bundle", "--out", str(tmp_path / "level"), "--page-on", "level"]) == 0
    verdict, level = written(tmp_path / "verdict"), written(tmp_path / "level")
    assert verdict == {name: as_bundled(name) for name in verdict}
    changed = {name for name in verdict if verdict[name] != level[name]}
    rules = {"prometheus/rules/entropy.yml", "alerts/rules/heads.yml"}
    manifests = {"deploy/kubernetes/rules/entropy.yaml", "deploy/kubernetes/rules/heads.yaml"}
    assert {str(name) for name in changed} == rules | manifests
    for name in changed:
        every = set(re.findall(r'sustained\{condition="(\w+)"|=~"([|\w]+settled)"', level[name]))
        assert not {"low", "collapsed"} & {word for found in every for word in "|".join(found).split("|")}
        assert any({"warning", "critical"} & set("|".join(found).split("|")) for found in every)


def test_another_verdict_is_refused_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["bundle", "--out", str(tmp_path / "bundle"), "--page-on", "mood"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
