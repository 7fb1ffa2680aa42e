"""Alertmanager's configuration against the real Alertmanager: routes, inhibition, messages."""

import json
import re
import subprocess
import threading
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rl_exporter.alerting.bundle import shipped_files
from stack.configuration import PAGES
from stack.processes import Binaries, Stack
from tests.support import ROOT
from tests.support.shipped_alerts import CONFIGURATION
from tests.support.waiting import until

RUN = {"run_id": "a", "cluster": "lab"}

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ({"alertname": "RLPolicyHeadCollapsed", "severity": "critical", **RUN}, "critical"),
        ({"alertname": "RLPolicyHeadStarved", "severity": "warning", **RUN}, "warning"),
        ({"alertname": "RLPolicyHeadDiluted", "severity": "info", **RUN}, "nobody"),
        ({"alertname": "RLTrainingVanished", "severity": "critical", **RUN}, "critical"),
        ({"alertname": "RLTrainingTargetDown", "severity": "warning", **RUN}, "warning"),
        ({"alertname": "RLMonitoringWatchdog", "severity": "none"}, "watchdog"),
    ],
)
def test_every_severity_goes_to_its_receiver(amtool, labels, receiver):
    arguments = [f"{key}={value}" for key, value in labels.items()]
    command = [amtool, "config", "routes", "test", f"--config.file={CONFIGURATION}", *arguments]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == receiver


@pytest.fixture(scope="module")
def binaries(prometheus, alertmanager):
    return Binaries(prometheus=prometheus, alertmanager=alertmanager)


@pytest.fixture
def stack(binaries, tmp_path):
    with Stack(tmp_path, binaries, faster=15) as stack:
        yield stack


def api(stack, path, payload=None):
    data = None if payload is None else json.dumps(payload).encode()
    request = urllib.request.Request(f"http://{stack.alertmanager}/api/v2/{path}", data)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or b"null")


def post_alerts(stack, *every, annotations=None):
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    api(
        stack,
        "alerts",
        [{"labels": labels, "annotations": annotations or {}, "endsAt": ends} for labels in every],
    )


def alert(name, severity, **labels):
    return {"alertname": name, "severity": severity, **labels}


COLLAPSED = alert("RLPolicyHeadCollapsed", "critical", head="op", **RUN)
INHIBITED = [
    alert("RLPolicyHeadEntropyLow", "warning", head="op", **RUN),
    alert("RLPolicyHeadEntropyFallingFast", "info", head="op", **RUN),
    alert("RLPolicyHeadSettled", "info", head="op", **RUN),
    alert("RLPolicyHeadStarved", "warning", head="slot", **RUN),
    alert("RLTrainingStalled", "warning", run_id="c"),
]
DEAD = alert("RLPolicyHeadDead", "critical", head="tempo", run_id="d")
ACTIVE = [
    COLLAPSED,
    DEAD,
    alert("RLTrainingFailed", "critical", run_id="c"),
    # The same names on another cluster or in another run, another head, an alert on the run itself.
    alert("RLPolicyHeadEntropyLow", "warning", head="op", run_id="a", cluster="other"),
    alert("RLPolicyHeadEntropyLow", "warning", head="op", run_id="b", cluster="lab"),
    alert("RLPolicyHeadStarved", "warning", head="slot", run_id="b", cluster="lab"),
    alert("RLPolicyHeadEntropyLow", "warning", head="style", **RUN),
    alert("RLTrainingStalled", "warning", **RUN),
    alert("RLPolicyHeadStarved", "warning", head="slot", run_id="c"),
    # Alerts of other people, and of this project without a run.
    alert("NodeDiskFull", "warning", head="op", **RUN),
    alert("NodeDiskFull", "warning"),
    alert("RLMonitoringRuleFailures", "critical"),
    alert("RLMonitoringSomething", "warning"),
]


def test_inhibition_explains_what_belongs_together_and_nothing_else(stack):
    stack.start_alertmanager()
    collapsed = alert("RLPolicyHeadCollapsed", "critical", head="tempo", run_id="d")
    post_alerts(stack, *ACTIVE, *INHIBITED, collapsed)

    def states():
        found = api(stack, "alerts")
        return len(found) == len(ACTIVE) + len(INHIBITED) + 1 and found

    # An alert is marked when Alertmanager handles its group, so wait for those that are to be inhibited.
    wanted = {frozenset(labels.items()) for labels in (*INHIBITED, collapsed)}

    def inhibited():
        return {
            frozenset(found["labels"].items()) for found in states() or () if found["status"]["inhibitedBy"]
        }

    until(lambda: inhibited() >= wanted)
    assert inhibited() == wanted


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted; answers with the server's present status."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def slack():
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.bodies, server.status = [], 200
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def as_an_example(stack, example, server):
    """The text of an example whose receivers are at ``server``."""
    address = f"http://127.0.0.1:{server.server_port}/"
    secret = stack.folder / "slack-url"
    secret.write_text(address)
    text = example.read_text().replace("../templates", "templates")
    text = text.replace("/etc/alertmanager/secrets/slack-url", str(secret))
    return stack.changes.applied(re.sub(r"https://[\w.-]+\.example\.org/", address, text))


@pytest.mark.parametrize("name", ["slack", "pagerduty", "teams", "webhook"])
def test_the_watchdog_of_an_example_reaches_somebody(stack, slack, name):
    example = as_an_example(stack, ROOT / f"alerts/examples/{name}.yml", slack)
    (stack.folder / "alerts/alertmanager.yml").write_text(example)
    stack.start_alertmanager()
    said = {"description": "This alert always fires."}
    post_alerts(stack, alert("RLMonitoringWatchdog", "none"), annotations=said)
    first = until(lambda: slack.bodies)[0]
    if name == "slack":
        assert first["channel"] == "#training-watchdog"
        assert first["attachments"][0]["text"] == said["description"]
    else:
        assert [found["labels"]["alertname"] for found in first["alerts"]] == ["RLMonitoringWatchdog"]


def test_a_message_says_which_head_of_which_run_how_bad_since_when_and_what_to_do(stack, slack, tmp_path):
    example = as_an_example(stack, ROOT / "alerts/examples/slack.yml", slack)
    pretext = "pretext: '{{ template \"rl.html\" . }}'\n        channel:"
    (tmp_path / "alerts/alertmanager.yml").write_text(example.replace("channel:", pretext))
    stack.start_alertmanager()
    said = {
        "summary": "Head op of run a has collapsed (effective entropy 0.009)",
        "description": "Head op of run a has had a low ratio.",
        "evidence": "WAIT at 97 % of its decisions, the same whatever it sees",
        "return": "return 2.41, its best so far 3.56",
        "level": "critical",
        "aggregate": "the total over all heads reads 6.98 nats",
        "runbook_url": "http://books/RLPolicyHeadCollapsed",
        "dashboard_url": "http://grafana/d/rl-heads?var-run_id=a",
    }
    post_alerts(stack, COLLAPSED, annotations=said)
    (message,) = until(lambda: slack.bodies)
    (attachment,) = message["attachments"]
    assert message["channel"] == "#training-pages"
    assert attachment["title"] == "CRITICAL: run a, head op (RLPolicyHeadCollapsed)"
    assert attachment["title_link"] == said["dashboard_url"]
    assert attachment["color"] == "danger"
    assert all(text in attachment["text"] for text in said.values() if text != "critical")
    assert f"<h3>{said['summary']}</h3>" in attachment["pretext"]
    assert f'<a href="{said["runbook_url"]}">' in attachment["pretext"]
    assert re.search(
        r"Level critical, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; return 2\.41, .*; the total",
        attachment["text"],
    )


def differences(one, other):
    return [pair for pair in zip(one.splitlines(), other.splitlines(), strict=True) if pair[0] != pair[1]]


def test_a_shortened_copy_differs_in_intervals_and_addresses_only(stack):
    from stack.configuration import AGE, DURATION

    def neutral(text):
        text = re.sub(r"(?<=[>=] )[\d.]+\b", "AGE", AGE.sub("AGE", text))
        return DURATION.sub("DURATION", re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text))

    names = [name for name in shipped_files() if name.suffix != ".md" and name.parts[0] != "grafana"]
    changed = 0
    for name in names:
        original, copy = (ROOT / name).read_text(), (stack.folder / name).read_text()
        assert neutral(original) == neutral(copy)
        changed += len(differences(original, copy))
    assert changed > 20
    rules = (stack.folder / "prometheus/rules/entropy.yml").read_text()
    assert ">= 4\n" in rules
    assert "[18000ms]" in (stack.folder / "alerts/rules/heads.yml").read_text()
    assert 'rl_policy_head_entropy_threshold_ratio{level="warning"} > 0\n' in rules
    assert f"http://{stack.pages}/" in (stack.folder / "alerts/alertmanager.yml").read_text()
    assert PAGES not in (stack.folder / "alerts/alertmanager.yml").read_text()
