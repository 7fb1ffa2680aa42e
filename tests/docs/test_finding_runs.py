"""docs/discovery.md is held to the code."""

import json
import re
import shlex

import pytest
import yaml

from rl_exporter.cli.main import parser as exporter
from rl_exporter.client.fetch import TIMEOUT_SECONDS
from rl_exporter.discovery.entry import HEARTBEAT_SECONDS, STALE_SECONDS, entry_path
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from rl_exporter.recorder import LINGER_SECONDS
from rl_training.run.cli import parser as trainer
from rl_training.run.cli import settings_from
from tests.support import ROOT

PAGE = (ROOT / "docs/discovery.md").read_text()
WORDS = " ".join(PAGE.split())


def block(start, language=""):
    (found,) = [
        text
        for kind, text in re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
        if kind == language and text.startswith(start)
    ]
    return found


def test_the_numbers_are_those_of_the_code():
    assert f"touches its entry every {HEARTBEAT_SECONDS:g} seconds" in WORDS
    assert WORDS.count(f"{STALE_SECONDS / 60:g} minutes") == 2
    assert f"linger: {LINGER_SECONDS:g} s by default" in WORDS
    assert f"may take to answer ({TIMEOUT_SECONDS:g})" in WORDS
    prometheus = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    refresh = prometheus["scrape_configs"][0]["file_sd_configs"][0]["refresh_interval"]
    assert refresh == "30s"
    assert prometheus["global"]["scrape_interval"] == "15s"
    assert "against 30 s refresh, 5 s by which Prometheus collects changes, and 15 s" in WORDS
    assert "and 15 s to the next scrape, or 240 s where scrapes are two minutes apart" in WORDS
    assert LINGER_SECONDS > 5 + 240  # Prometheus sees a local directory at once


def test_the_commands_are_accepted_and_leave_the_entry_that_is_shown(tmp_path):
    command = shlex.split(block("mkdir").splitlines()[1])
    settings = settings_from(trainer().parse_args(command[1:]))
    path = entry_path(settings.output.register, settings.run.run_id, settings.output.label)
    entry = dump_groups(TargetGroup(["node12:40613"], settings.output.label)).decode().strip()
    assert f"`{path}` is then `{entry}`" in PAGE
    assert f"registered in {settings.output.register} as node12:40613" in block("run sweep-17")
    for line in block("rl-exporter targets").splitlines():
        exporter().parse_args(shlex.split(line, comments=True)[1:])
    with pytest.raises(SystemExit):
        exporter().parse_args(["targets", "remove", "x"])


def test_the_job_is_that_of_the_shipped_configuration_but_for_the_directory():
    job = yaml.safe_load(block("scrape_configs", "yaml"))["scrape_configs"][0]
    shipped = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    assert job["file_sd_configs"][0].pop("files") == ["/shared/rl/targets/*.json"]
    shipped["file_sd_configs"][0].pop("files")
    assert job == shipped


def test_the_example_in_python_registers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "targets").mkdir()
    variables = {}
    exec(block("from rl_exporter", "python").replace("0.0.0.0:0", "127.0.0.1:0"), variables)
    (path,) = (tmp_path / "targets").iterdir()
    assert json.loads(path.read_text())[0]["labels"] == {"cluster": "lab"}
    variables["heads"]._linger = 0
    variables["heads"].close()
    assert not path.exists()


def test_every_option_is_named(capsys):
    for action in ("list", "prune"):
        with pytest.raises(SystemExit):
            exporter().parse_args(["targets", action, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert {"--older-than", "--dry-run", "--json", "--timeout"} <= options
    assert {option for option in options if f"{option}" not in PAGE} == set()
