"""What `rl-exporter bundle --into existing` writes, in another team's Prometheus and Alertmanager, which still page."""

import re
import shlex
import shutil
import subprocess
import time
from contextlib import ExitStack

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, ListenAddress, MetricsServer, PPOUpdatePayload, RunInfo
from rl_exporter import SanctumAggregator as Aggregator
from rl_exporter.cli.main import main
from rl_exporter.discovery.file_sd import TargetGroup, dump_groups
from stack.processes import Binaries, Stack
from tests.support.foreign_servers import ALERTMANAGER, PROMETHEUS, RULES
from tests.support.servers import query
from tests.support.waiting import until
from tests.support.webhooks import webhook

pytestmark = [pytest.mark.stack, pytest.mark.slow]

LOW = HeadMeasurement(0.1, 0.1, 1.0, 1.0, 0.5, state_information=0.001)
RECEIVERS = {
    "https://hooks.example.org/critical": "critical",
    "https://hooks.example.org/warning": "warning",
    "https://heartbeat.example.org/rl-watchdog": "watchdog",
    "http://127.0.0.1:1/mail": "their mail",
    "http://127.0.0.1:1/pager": "their pager",
}
"""Addresses in the receivers, ours and theirs."""

SERVERS = ("prometheus", "alertmanager")


@pytest.fixture(scope="module")
def hooks():
    """A real webhook for each receiver."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(webhook()) for name in RECEIVERS.values()}


@pytest.fixture(scope="module")
def merged(tmp_path_factory, prometheus, alertmanager, hooks):
    """The other team's servers on this machine, with ours merged in, and everything fifteen times as fast."""
    folder = tmp_path_factory.mktemp("existing")
    theirs = folder / "theirs"
    theirs.mkdir()
    for name, text in (("prometheus.yml", PROMETHEUS), ("alertmanager.yml", ALERTMANAGER), ("web.yml", RULES)):
        (theirs / name).write_text(text)
    (theirs / "web").mkdir()
    options = ["--into", "existing", "--label", "team=rl", "--receiver", "webhook"]
    files = [part for name in SERVERS for part in (f"--{name}", str(theirs / f"{name}.yml"))]
    assert main(["bundle", "--out", str(folder / "out"), *options, *files]) == 0
    with Stack(
        folder / "servers", Binaries(prometheus=prometheus, alertmanager=alertmanager), faster=15
    ) as stack:
        for name, place in (("prometheus", "prometheus"), ("alertmanager", "alerts")):
            shutil.rmtree(stack.folder / place)
            shutil.copytree(folder / "out" / name, stack.folder / place)
        shutil.copy(theirs / "web.yml", stack.folder / "prometheus")
        for path in (*stack.folder.rglob("*.yml"), *stack.folder.rglob("*.tmpl")):
            text = stack.changes.applied(path.read_text())
            for address, name in RECEIVERS.items():
                text = text.replace(address, hooks[name].url)
            path.write_text(text)
        yield stack


@pytest.fixture(scope="module")
def collapsed():
    """A run whose only head has been collapsed for five minutes."""
    start = time.time() - 300
    clock = iter([start + 60 * n for n in range(6)])
    aggregator = Aggregator(Heads([Head("op", 6)]), RunInfo("drill"), clock=lambda: next(clock))
    for _ in range(5):
        aggregator.handle_ppo_update(
            PPOUpdatePayload(heads={"op": LOW}, rollout_duration=3600, update_duration=1)
        )
    server = MetricsServer(aggregator.snapshot, ListenAddress(port=0))
    server.start()
    yield server
    server.stop()


def test_their_tools_accept_the_merged_files(merged, promtool, amtool):
    for command in (
        [promtool, "check", "config", merged.folder / "prometheus/prometheus.yml"],
        [amtool, "check-config", merged.folder / "alerts/alertmanager.yml"],
    ):
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stdout + said.stderr


def test_the_runbook_finds_the_route_of_the_watchdog(merged, amtool):
    """As it is written for these labels; without them the other team's route would answer."""
    runbook = (merged.folder.parent / "out/runbooks/RLMonitoringWatchdog.md").read_text()
    [labels] = re.findall(r"config routes test (.*)", runbook)
    configuration = f"--config.file={merged.folder / 'alerts/alertmanager.yml'}"

    def route(*words):
        command = [amtool, "config", "routes", "test", configuration, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert route(*shlex.split(labels)) == "rl-training-watchdog"
    assert route("alertname=RLMonitoringWatchdog", "severity=none") == "web-mail"


def alerts(hook):
    """Labels of the alerts that a receiver was sent, by name."""
    return {alert["labels"]["alertname"]: alert["labels"] for post in hook.posts for alert in post["alerts"]}


def test_each_team_is_paged_for_its_own(merged, collapsed, hooks):
    merged.start_alertmanager()
    merged.start_prometheus()
    target = merged.folder / "prometheus/rl/targets/drill.json"
    target.write_bytes(dump_groups(TargetGroup([str(collapsed.address)], {"cluster": "lab"})))
    until(lambda: alerts(hooks["critical"]) and alerts(hooks["watchdog"]) and alerts(hooks["their pager"]))

    page = alerts(hooks["critical"])["RLPolicyHeadCollapsed"]
    assert page == {
        "alertname": "RLPolicyHeadCollapsed", "severity": "critical", "team": "rl", "run_id": "drill", "head": "op",
        "job": "rl-training", "instance": str(collapsed.address), "cluster": "lab", "region": "eu", "prometheus": "web-a",
    }  # fmt: skip
    assert alerts(hooks["watchdog"]).keys() == {"RLMonitoringWatchdog"}
    assert alerts(hooks["watchdog"])["RLMonitoringWatchdog"]["team"] == "rl"
    # Theirs goes where it went, and nothing of one team to the other.
    assert alerts(hooks["their pager"]).keys() == {"ShopDown"}
    assert alerts(hooks["their mail"]) == {}
    assert alerts(hooks["critical"]).keys() == {"RLPolicyHeadCollapsed"}
    # The collapse says what low entropy says: inhibited, although it fires.
    low = 'ALERTS{alertname="RLPolicyHeadEntropyLow",alertstate="firing",team="rl"}'
    until(lambda: query(merged.prometheus, low))
    assert alerts(hooks["warning"]) == {}
    assert not query(merged.prometheus, 'ALERTS{alertname="RLMonitoringRuleFailures",alertstate="firing"}')
