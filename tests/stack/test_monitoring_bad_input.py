"""What the real servers do with broken input, as the documentation says: nothing is lost."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rl_exporter import (
    HeadMeasurement,
    Heads,
    ListenAddress,
    MetricsServer,
    PPOUpdatePayload,
    RunInfo,
    SanctumAggregator,
)
from rl_exporter.collector import Renderer
from stack.processes import Binaries, Stack
from tests.support.servers import query
from tests.support.waiting import until

pytestmark = pytest.mark.stack

COLLAPSED = PPOUpdatePayload(heads={"op": HeadMeasurement(0.05, 0.03, 0.5, 0.8)})
FIRING = 'ALERTS{alertstate="firing", alertname="RLPolicyHeadCollapsed", run_id="sick"}'


@pytest.fixture
def stack(prometheus, alertmanager, tmp_path):
    with Stack(tmp_path, Binaries(prometheus=prometheus, alertmanager=alertmanager), faster=15) as stack:
        yield stack


@pytest.fixture
def sick():
    """The exporter of a run whose only head has collapsed."""
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("sick"))
    for _ in range(5):
        aggregator.handle_ppo_update(COLLAPSED)
    with MetricsServer(aggregator.snapshot, ListenAddress(port=0)) as server:
        yield server


@pytest.fixture
def listen():
    servers = []

    def start(handler, port=0):
        server = HTTPServer(("127.0.0.1", port), handler)
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return server

    def stop(server, thread):
        server.shutdown()
        server.server_close()
        thread.join()

    yield start, lambda: [stop(*servers.pop()) for _ in list(servers)]
    for pair in servers:
        stop(*pair)


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Broken(Quiet):
    """Answers every notification with status 500."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen += [alert["labels"]["alertname"] for alert in body["alerts"]]
        self.send_error(500)


class CutOff(Quiet):
    """The whole of /metrics at first; later only half of it, and the connection closes."""

    body = b""

    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body if len(self.server.seen) < 3 else self.body[: len(self.body) // 2])


def test_broken_json_in_a_target_file_keeps_the_last_good_targets(stack, sick):
    entry = stack.list_target("sick", str(sick.address))
    stack.start_prometheus()
    up = f'up{{job="rl-training", instance="{sick.address}"}} == 1'
    until(lambda: query(stack.prometheus, up))
    good = entry.read_text()
    entry.write_text(good[:-5])
    until(lambda: str(entry) in stack.log_path("prometheus").read_text())
    scraped = "rl_exporter_render_duration_seconds_count"
    ((_, before),) = [row["value"] for row in until(lambda: query(stack.prometheus, scraped))]
    until(lambda: query(stack.prometheus, f"{scraped} > {before} + 3"))
    until(lambda: query(stack.prometheus, up))
    entry.write_text(good)
    entry.unlink()
    until(lambda: not query(stack.prometheus, up))


def test_alerts_are_delivered_once_alertmanager_and_then_the_receiver_are_back(stack, sick, listen):
    start, stop_all = listen
    stack.list_target("sick", str(sick.address))
    stack.start_prometheus()
    # Nothing listens where Alertmanager is said to be: the alert fires, and stays.
    until(lambda: query(stack.prometheus, FIRING))
    until(lambda: query(stack.prometheus, "prometheus_notifications_errors_total > 0"))

    broken = start(Broken, int(stack.pages.rpartition(":")[2]))
    stack.start_alertmanager()
    until(lambda: broken.seen.count("RLPolicyHeadCollapsed") >= 2)
    stop_all()

    stack.start_pages()
    pages = stack.log_path("pages")
    until(lambda: "CRITICAL  Head op of run sick has collapsed" in pages.read_text())
    assert pages.read_text().count("CRITICAL  Head op of run sick has collapsed") == 1


def test_a_run_that_disappears_mid_scrape_leaves_no_half_update(stack, listen):
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("cut"))
    aggregator.handle_ppo_update(COLLAPSED)
    CutOff.body = Renderer(aggregator.snapshot).render("")[0]
    start, _ = listen
    server = start(CutOff)
    stack.list_target("cut", f"127.0.0.1:{server.server_port}")
    stack.start_prometheus()
    until(lambda: query(stack.prometheus, 'last_over_time(rl_training_updates_total{run_id="cut"}[1h])'))
    until(lambda: query(stack.prometheus, 'up{job="rl-training"} == 0'))
    assert query(stack.prometheus, '{run_id="cut", __name__=~"rl_.+"}') == []
    down = 'ALERTS{alertstate="firing", alertname="RLTrainingTargetDown", run_id="cut"}'
    until(lambda: query(stack.prometheus, down))
