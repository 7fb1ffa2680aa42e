import gzip
import http.client
import json
import re
import subprocess
import sys
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import rl_exporter.server.http as http_module
from rl_exporter import (
    HeadMeasurement,
    Heads,
    MetricsServer,
    PPOUpdatePayload,
    RunInfo,
    RunState,
    SanctumAggregator,
)
from rl_exporter.cli.main import main as watch
from rl_exporter.server.limits import Limits
from rl_exporter.server.listen import DEFAULT_PORT, ListenAddress, parse_listen_address

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SCRAPE = {"X-Prometheus-Scrape-Timeout-Seconds": "10", "User-Agent": "Prometheus/3"}
UPDATE = PPOUpdatePayload(heads={"op": HeadMeasurement(0.9), "slot": HeadMeasurement(1.0, 0.5, 0.25, 0.5)})


@pytest.fixture
def aggregator():
    return SanctumAggregator(Heads.of({"op": 6, "slot": 3}), RunInfo('we"ird\n<run>'), entropy_coefficient=0.01)


@pytest.fixture
def server(aggregator):
    with MetricsServer(aggregator.snapshot, ListenAddress(port=0)) as running:
        yield running


def request(server, path, method="GET", headers=None):
    connection = http.client.HTTPConnection(server.address.host, server.address.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def samples(text, parse=parse_text):
    return [sample for family in parse(text) for sample in family.samples]


def test_no_head_sample_before_the_first_update(server, aggregator):
    names = {sample.name for sample in samples(request(server, "/metrics")[1].decode())}
    assert "rl_policy_head_entropy_max_nats" in names
    assert "rl_policy_head_entropy_nats" not in names
    assert "rl_policy_entropy_nats" not in names
    assert "rl_training_last_update_timestamp_seconds" not in names
    aggregator.handle_ppo_update(UPDATE)
    names = {sample.name for sample in samples(request(server, "/metrics")[1].decode())}
    assert {"rl_policy_head_entropy_nats", "rl_policy_entropy_nats"} <= names


@pytest.mark.parametrize(("accept", "parse"), [("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_both_formats_carry_the_same_true_numbers(server, aggregator, accept, parse):
    aggregator.handle_ppo_update(UPDATE)
    response, body = request(server, "/metrics", headers={"Accept": accept})
    assert response.status == 200
    assert response.headers["Content-Type"].startswith(accept.partition(";")[0])
    found = samples(body.decode(), parse)
    entropy = {s.labels["head"]: s.value for s in found if s.name == "rl_policy_head_entropy_nats"}
    assert entropy == {"op": 0.9, "slot": 1.0}
    choice = {s.labels["head"]: s.value for s in found if s.name == "rl_policy_head_choice_entropy_ratio"}
    assert choice == {"slot": 0.5}
    assert not [s.name for s in found if s.name.endswith("_created") or s.name.startswith("python_")]
    own = ("process_", "rl_exporter_")
    assert all(s.labels["run_id"] == 'we"ird\n<run>' for s in found if not s.name.startswith(own))
    assert body.count(b"# EOF") == (1 if accept == OPENMETRICS else 0)


@pytest.mark.parametrize(
    "accept", ["text/plain; version=zzz", "application/openmetrics-text; version=", "\x7f;;=,"]
)
def test_a_malformed_accept_header_gets_plain_text(server, accept):
    response, body = request(server, "/metrics", headers={"Accept": accept})
    assert response.status == 200
    assert response.headers["Content-Type"].startswith(
        ("text/plain; version=0.0.4", "application/openmetrics-text")
    )
    assert b"rl_training_run_state" in body


def test_formats_that_clients_make_up_do_not_pile_up(server, aggregator):
    for version in range(50):
        request(server, "/metrics", headers={"Accept": f"application/openmetrics-text; version=1.0.{version}"})
    assert len(server._renderer._kept) <= 8


def test_gzip_only_when_asked(server, aggregator):
    aggregator.handle_ppo_update(UPDATE)
    plain, body = request(server, "/metrics")
    assert plain.headers["Content-Encoding"] is None
    packed, small = request(server, "/metrics", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    pick = re.compile(rb"rl_policy_head_entropy_nats.*")
    assert pick.findall(gzip.decompress(small)) == pick.findall(body)


@pytest.mark.parametrize(
    ("header", "packed"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br, gzip; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, deflate", False),
        ("notgzip", False),
        ("*", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_those_who_take_it(server, header, packed):
    response = request(server, "/metrics", headers={"Accept-Encoding": header})[0]
    assert (response.headers["Content-Encoding"] == "gzip") is packed


def test_health_and_readiness(server, aggregator):
    assert request(server, "/-/healthy")[0].status == 200
    assert request(server, "/-/ready")[0].status == 503
    aggregator.handle_ppo_update(UPDATE)
    assert request(server, "/-/ready")[0].status == 200


def test_the_heads_are_the_document_of_watch(server, aggregator, capsys):
    response, body = request(server, "/api/v1/heads")
    assert (response.status, json.loads(body)["status"]) == (200, "no_data")
    aggregator.handle_ppo_update(UPDATE)
    response, body = request(server, "/api/v1/heads")
    assert (response.headers["Content-Type"], response.headers["Cache-Control"]) == (
        "application/json",
        "no-store",
    )
    assert watch(["watch", "--once", "--json", str(server.address)]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("url") == f"{server.url}/metrics"
    assert json.loads(body) == printed | {"url": None}
    assert request(server, "/api/v1/heads", method="POST")[0].status == 405


def test_the_heads_are_rendered_once_per_update(server, aggregator, monkeypatch):
    rendered = []
    monkeypatch.setattr(
        http_module, "json_line", lambda snapshot: rendered.append(snapshot) or str(len(rendered))
    )
    for _ in range(3):
        assert request(server, "/api/v1/heads")[1] == b"1\n"
    aggregator.handle_ppo_update(UPDATE)
    assert request(server, "/api/v1/heads")[1] == b"2\n"
    aggregator.set_run_state(RunState.COMPLETED)
    assert request(server, "/api/v1/heads")[1] == b"3\n"
    assert rendered[-1].run_state is RunState.COMPLETED


def test_landing_page_escapes_names(server):
    response, body = request(server, "/")
    assert response.status == 200
    assert b"&lt;run&gt;" in body
    assert b"<run>" not in body


def test_other_paths_and_methods(server):
    assert request(server, "/nonsense")[0].status == 404
    refused = request(server, "/metrics", method="POST")[0]
    assert refused.status == 405
    assert refused.headers["Allow"] == "GET, HEAD"


def test_head_says_what_get_would_send_and_is_no_scrape(server, aggregator):
    for path in ("/", "/api/v1/heads", "/-/healthy", "/-/ready", "/nonsense"):
        got, body = request(server, path)
        head, nothing = request(server, path, method="HEAD")
        assert (head.status, nothing) == (got.status, b"")
        assert head.headers["Content-Length"] == str(len(body))
        assert head.headers["Content-Type"] == got.headers["Content-Type"]
    request(server, "/metrics", headers=SCRAPE)
    aggregator.set_run_state(RunState.COMPLETED)
    server.scrapers.run_ended()
    assert request(server, "/metrics", method="HEAD", headers=SCRAPE)[0].status == 200
    assert not server.scrapers.wait(0)


def test_no_answer_names_the_server_software(server):
    for path in ("/metrics", "/nonsense"):
        headers = request(server, path)[0].headers
        assert "Server" not in headers
        assert headers["Date"].endswith("GMT")


def test_run_state_and_self_metrics_are_current_between_updates(server, aggregator):
    aggregator.handle_ppo_update(UPDATE)
    request(server, "/metrics")
    aggregator.set_run_state(RunState.COMPLETED)
    found = samples(request(server, "/metrics")[1].decode())
    states = {s.labels["state"]: s.value for s in found if s.name == "rl_training_run_state"}
    assert states == {"running": 0, "completed": 1, "interrupted": 0, "failed": 0}
    assert [s.value for s in found if s.name == "rl_exporter_render_duration_seconds_count"] == [1]


@pytest.mark.slow
def test_a_scrape_never_mixes_two_updates(server, aggregator):
    stop = threading.Event()

    def train():
        value = 0
        while not stop.is_set():
            value = (value + 1) % 1000
            both = HeadMeasurement(value / 1000)
            aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": both, "slot": both}))

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        for _ in range(50):
            found = samples(request(server, "/metrics")[1].decode())
            assert len({s.value for s in found if s.name == "rl_policy_head_entropy_nats"}) <= 1
    finally:
        stop.set()
        trainer.join()


def test_linger_waits_for_recent_scrapers_only(server, aggregator):
    assert server.scrapers.wait(0)
    request(server, "/metrics")
    request(server, "/metrics", headers=SCRAPE)
    server.scrapers.run_ended()
    assert not server.scrapers.wait(0.01)
    request(server, "/metrics", headers=SCRAPE)
    assert not server.scrapers.wait(0.01), "that scrape still said running"
    aggregator.set_run_state(RunState.COMPLETED)
    request(server, "/metrics", headers={**SCRAPE, "User-Agent": "another"})
    assert not server.scrapers.wait(0.01)
    request(server, "/metrics", headers=SCRAPE)
    assert server.scrapers.wait(5)


def test_it_stops_without_waiting_for_a_deadline(aggregator):
    hours = Limits(request_seconds=3600, idle_seconds=3600)
    running = MetricsServer(aggregator.snapshot, ListenAddress(port=0), limits=hours)
    running.start()
    stopping = threading.Thread(target=running.stop, daemon=True)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    with pytest.raises(ConnectionError):
        request(running, "/-/healthy")


def test_a_busy_port_is_one_clear_line(server, aggregator):
    with pytest.raises(OSError, match=rf"127.0.0.1:{server.address.port}: the port is in use.*listen="):
        MetricsServer(aggregator.snapshot, server.address).start()


def test_ipv6(aggregator):
    with MetricsServer(aggregator.snapshot, parse_listen_address("[::1]:0")) as running:
        assert running.url.startswith("http://[::1]:")
        assert request(running, "/-/healthy")[0].status == 200


def test_listen_addresses():
    assert parse_listen_address("localhost:9") == ("localhost", 9)
    assert parse_listen_address(":9") == ("0.0.0.0", 9)
    assert str(parse_listen_address("[::1]:9")) == "[::1]:9"
    assert ListenAddress() == ("127.0.0.1", DEFAULT_PORT)
    for wrong in ("localhost", "::1:9", "host:port", "host:70000", "host:", ""):
        with pytest.raises(ValueError, match="listen address"):
            parse_listen_address(wrong)


def test_the_exporter_loads_no_torch():
    code = (
        "import rl_exporter, rl_exporter.cli.main, sys; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
