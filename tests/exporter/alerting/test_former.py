"""The same command on configurations that hold a former bundle: an upgrade replaces what is ours, and keeps the rest."""

import shutil

import pytest

from tests.support.foreign_servers import RULES
from tests.support.merged_bundles import FORMS, REFUSED, bundle, foreign_configurations, loaded


@pytest.fixture
def foreign(tmp_path):
    return foreign_configurations(tmp_path)


def again(folder, *arguments):
    """The same command on what the first one wrote, copied as docs/install.md says. Returns its status and folder."""
    second = folder / "again"
    second.mkdir()
    for name in ("prometheus", "alertmanager"):
        shutil.copytree(folder / "out" / name, second, dirs_exist_ok=True)
    (second / "web.yml").write_text(RULES)
    return bundle(second, *arguments), second


def test_the_same_command_once_more_changes_nothing(foreign):
    assert bundle(foreign, "--label", "team=rl") == 0
    status, second = again(foreign, "--label", "team=rl")
    assert status == 0
    for name in ("prometheus/prometheus.yml", "alertmanager/alertmanager.yml"):
        assert (second / "out" / name).read_text() == (foreign / "out" / name).read_text()


@pytest.mark.parametrize("form", sorted(FORMS.keys() - REFUSED))
def test_what_a_former_bundle_put_in_is_replaced_in_every_form(tmp_path, form):
    (tmp_path / "prometheus.yml").write_bytes(FORMS[form].encode())
    assert bundle(tmp_path, merge=["prometheus"]) == 0
    former = (tmp_path / "out/prometheus/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(former)
    shutil.rmtree(tmp_path / "out")
    assert bundle(tmp_path, "--job", "rl-runs", merge=["prometheus"]) == 0
    now = (tmp_path / "out/prometheus/prometheus.yml").read_text()
    assert now == former.replace("rl-training", "rl-runs")


def test_an_upgrade_keeps_what_somebody_wrote_into_ours(foreign):
    """Receivers, and lines of the job and of the route that ours does not have; what is ours becomes the present one."""
    assert bundle(foreign, "--receiver", "webhook") == 0
    edits = {
        "prometheus": (
            ("    scrape_interval: 15s\n", "    # Ours.\n", 1),
            (
                "      sample_limit: 10000\n",
                "      sample_limit: 5\n      basic_auth: {username: us, password_file: p}\n",
                1,
            ),
        ),
        "alertmanager": (
            ("https://hooks.example.org/critical", "https://hooks.example.com/us", 1),
            ("        - matchers:\n", "        - continue: true\n          matchers:\n", 1),
            ("        # Everything critical", "        # Theirs.\n        # Everything critical", 1),
        ),
    }
    for name, changes in edits.items():
        path = foreign / f"out/{name}/{name}.yml"
        text = path.read_text()
        for old, new, count in changes:
            text = text.replace(old, new, count)
        path.write_text(text)
    status, second = again(foreign, "--label", "team=rl", "--receiver", "webhook")
    assert status == 0
    job = loaded(second, "prometheus/prometheus.yml")["scrape_configs"][0]
    assert (job["sample_limit"], job["scrape_interval"], job["basic_auth"]["username"]) == (10000, "15s", "us")
    whole = loaded(second, "alertmanager/alertmanager.yml")
    route = whole["route"]["routes"][0]
    assert (route["continue"], route["matchers"][1]) == (True, 'team="rl"')
    assert whole["receivers"][0]["webhook_configs"][0]["url"] == "https://hooks.example.com/us"
    assert len(whole["receivers"]) == 4 + 2
    assert len(whole["inhibit_rules"]) == 1 + len(loaded(second, "fragments/alertmanager.yml")["inhibit_rules"])
    assert (
        "        # Theirs.\n        # Everything critical"
        in (second / "out/alertmanager/alertmanager.yml").read_text()
    )


def test_what_cannot_be_replaced_is_one_line(foreign, capsys):
    assert bundle(foreign) == 0
    path = foreign / "out/prometheus/prometheus.yml"
    path.write_text(
        path.read_text().replace("rule_files:\n", "x: &ours [rl/rules/*.yml]\nrule_files: *ours\nold:\n")
    )
    assert again(foreign)[0] == 2
    said = capsys.readouterr().err
    assert "holds what a former bundle put in, in a way that this cannot replace; take the items" in said
    assert said.count("\n") == 1
