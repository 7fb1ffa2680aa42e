"""``make stack``: the real servers on this machine, and nothing of them afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rl_exporter.alerting.bundle import shipped, shipped_files
from stack.configuration import ALERTMANAGER, PAGES, PROMETHEUS, Changes, write_configuration
from stack.grafana import find_grafana, grafana_environment
from stack.processes import free_address, is_free
from stack.servers import MissingServerError
from tests.support import ROOT
from tests.support.servers import RULE_GROUPS, get, query
from tests.support.waiting import until

NAMES = ("grafana", "prometheus", "alertmanager", "pages", "trainer")


def command(addresses, *more):
    servers = Path(os.environ.get("RL_TEST_SERVERS", ".servers")).absolute()
    options = [part for name, address in addresses.items() for part in (f"--{name}", address)]
    return [sys.executable, "-m", "stack.live", "--servers", servers, *options, *more]


def environment(folder):
    paths = [str(ROOT / name) for name in (".", "exporter", "training")]
    chosen = {name: value for name, value in os.environ.items() if name != "GRAFANA_HOME"}
    return chosen | {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder)}


def active_alertmanagers(server):
    found = json.loads(get(f"http://{server}/api/v1/alertmanagers"))["data"]["activeAlertmanagers"]
    return [alertmanager["url"] for alertmanager in found]


@pytest.mark.stack
def test_it_starts_what_it_finds_names_what_is_missing_and_leaves_nothing(prometheus, alertmanager, tmp_path):
    addresses = {name: free_address() for name in NAMES}
    more = ("--pace", "0.2", "--run-id", "here")
    process = subprocess.Popen(
        command(addresses, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(tmp_path),
    )
    try:
        server = addresses["prometheus"]
        until(lambda: query(server, 'rl_training_updates_total{run_id="here", cluster="local"} > 0'))
        until(lambda: query(server, 'up{job="alertmanager"} == 1'))
        rules = json.loads(get(f"http://{server}/api/v1/rules"))["data"]["groups"]
        assert {group["name"] for group in rules} == RULE_GROUPS
        until(lambda: addresses["alertmanager"] in "".join(active_alertmanagers(server)))
        assert "Runbooks" in get(f"http://{addresses['pages']}/runbooks/")
    finally:
        process.send_signal(signal.SIGINT)
        watchdog = threading.Timer(90, process.kill)
        watchdog.start()
        said, _ = process.communicate()
        watchdog.cancel()
    assert process.returncode == 0, said
    assert "Grafana       missing: set GRAFANA_HOME to a Grafana" in said
    for name in ("prometheus", "alertmanager", "pages", "trainer"):
        assert f"http://{addresses[name]}/" in said
    assert list(tmp_path.iterdir()) == []
    assert all(is_free(address) for address in addresses.values())


@pytest.mark.stack
def test_an_occupied_port_is_one_line_with_the_remedy(prometheus, alertmanager, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addresses = {name: free_address() for name in NAMES} | {"pages": f"127.0.0.1:{taken.getsockname()[1]}"}
        done = subprocess.run(
            command(addresses),
            capture_output=True,
            text=True,
            check=False,
            env=environment(tmp_path),
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{addresses['pages']}, the address of pages, is in use" in done.stderr
    assert "ARGS='--pages 127.0.0.1:PORT'" in done.stderr


def differences(folder, changes):
    """Lines in which a copy of the configuration differs from what is shipped, by file."""
    write_configuration(folder, changes)
    found = {}
    for name in shipped_files():
        copied = folder / name
        if copied.exists():
            pairs = zip(
                (shipped() / name).read_text().splitlines(), copied.read_text().splitlines(), strict=True
            )
            lines = {(a, b) for a, b in pairs if a != b}
            if lines:
                found[str(name)] = lines
    return found


def test_the_copy_of_the_configuration_differs_in_the_addresses_alone(tmp_path):
    assert differences(tmp_path / "same", Changes()) == {}
    moved = {PROMETHEUS: "127.0.0.1:1", ALERTMANAGER: "127.0.0.1:2", PAGES: "127.0.0.1:3"}
    found = differences(tmp_path / "moved", Changes(addresses=moved))
    assert found["alerts/alertmanager.yml"] == {
        (f"      - url: http://{PAGES}/", "      - url: http://127.0.0.1:3/")
    }
    for lines in found.values():
        for before, after in lines:
            back = after
            for shipped_address, new in moved.items():
                back = back.replace(new, shipped_address)
            assert back == before
    assert (tmp_path / "same/alerts/rules/heads.yml").exists()


def test_grafana_is_configured_with_the_shipped_files_and_asks_nobody_outside(tmp_path):
    chosen = grafana_environment("127.0.0.1:3000", "127.0.0.1:9090", tmp_path)
    assert chosen["PROMETHEUS_URL"] == "http://127.0.0.1:9090"
    assert Path(chosen["GF_PATHS_PROVISIONING"], "datasources/prometheus.yml").is_file()
    assert Path(chosen["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).is_file()
    assert Path(chosen["RL_DASHBOARDS"], "rl-heads.json").is_file()
    assert chosen["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_a_tree_that_is_no_grafana_is_named_with_what_it_lacks(tmp_path):
    with pytest.raises(MissingServerError, match="set GRAFANA_HOME"):
        find_grafana(None)
    (tmp_path / "public").mkdir()
    with pytest.raises(MissingServerError, match=r"lacks bin/grafana, conf/defaults\.ini; set GRAFANA_HOME"):
        find_grafana(str(tmp_path))
