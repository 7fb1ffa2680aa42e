"""``rl-exporter pages`` against whoever else can reach its port, and a page about a whole fleet."""

import io
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from datetime import UTC, datetime
from wsgiref.util import setup_testing_defaults

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rl_exporter.alerting import notification as notification_module
from rl_exporter.alerting.admission import Admission
from rl_exporter.alerting.receiver import PageReceiver
from stack.processes import Binaries, Stack
from tests.support import ROOT
from tests.support.waiting import until

NOW = datetime(2030, 1, 1, 12, 5, tzinfo=UTC)
RUNS = 3000
"""The largest fleet that docs/scale.md speaks of."""


def alert(**changes):
    return {
        "status": "firing",
        "labels": {"alertname": "RLPolicyHeadCollapsed", "severity": "critical", "run_id": "drill"},
        "annotations": {"summary": "Head op of run drill has collapsed"},
        "startsAt": "2030-01-01T12:00:30Z",
        "endsAt": "0001-01-01T00:00:00Z",
        **changes,
    }


def body(*alerts, **more):
    return json.dumps({"version": "4", "alerts": alerts, **more}).encode()


@pytest.fixture
def out():
    return io.StringIO()


def post(receiver, content, **headers):
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_TYPE": "application/json"}
    environ |= {"wsgi.input": io.BytesIO(content), **headers}
    setup_testing_defaults(environ)
    statuses = []
    text = b"".join(receiver(environ, lambda status, headers: statuses.append(status)))
    return statuses[0], text.decode()


def receiver_of(out, **options):
    return PageReceiver(out, clock=lambda: NOW, **options)


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_ORIGIN": "https://evil.example"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://127.0.0.1:28009"},  # a name that was rebound to this address
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_REFERER": "https://evil.example/"},
    ],
)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"]
)
def test_a_web_page_cannot_forge_a_page(headers, content_type, out):
    status, text = post(receiver_of(out), body(alert()), CONTENT_TYPE=content_type, **headers)
    assert status == "403 Forbidden"
    assert "a web page may not post" in text
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain;charset=UTF-8", "multipart/form-data; boundary=x"]
)
def test_what_says_that_it_is_no_json_is_refused(content_type, out):
    assert post(receiver_of(out), body(alert()), CONTENT_TYPE=content_type)[0].startswith("415")
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "", "application/x-www-form-urlencoded"],
)
def test_json_and_what_no_tool_has_stated_is_taken(content_type, out):
    assert post(receiver_of(out), body(alert()), CONTENT_TYPE=content_type)[0] == "200 OK"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("open sesame\n")
    return path


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer open sesame", "200 OK"),
        ("bearer  open sesame", "200 OK"),
        ("Bearer open", "401 Unauthorized"),
        ("Bearer", "401 Unauthorized"),
        ("Basic open sesame", "401 Unauthorized"),
        ("Bearer \xff\xfe", "401 Unauthorized"),
        (None, "401 Unauthorized"),
    ],
)
def test_with_a_secret_only_who_knows_it_may_page(header, status, secret, out):
    given = {} if header is None else {"HTTP_AUTHORIZATION": header}
    assert post(receiver_of(out, admission=Admission(secret)), body(alert()), **given)[0] == status
    assert bool(out.getvalue()) == (status == "200 OK")


def test_a_new_secret_needs_no_restart_and_a_lost_one_loses_no_page(secret, out):
    receiver = receiver_of(out, admission=Admission(secret))
    secret.write_text("another")
    assert post(receiver, body(alert()), HTTP_AUTHORIZATION="Bearer open sesame")[0].startswith("401")
    assert post(receiver, body(alert()), HTTP_AUTHORIZATION="Bearer another")[0] == "200 OK"
    secret.unlink()
    # Alertmanager delivers again after a 5xx, and gives up after a 4xx.
    assert post(receiver, body(alert()), HTTP_AUTHORIZATION="Bearer another")[0].startswith("500")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file or directory; give a file with a secret"),
        (lambda path: path.write_text(" \n"), "it is empty; write a secret into it"),
        (os.mkfifo, "it is no regular file; give a file with a secret"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file; give a file with a secret"),
    ],
)
def test_a_secret_file_that_is_none_is_one_line_and_status_2(make, reason, tmp_path):
    make(tmp_path / "x")
    code = "import sys; from rl_exporter.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "pages", "--listen", "127.0.0.1:0", "--secret-file", tmp_path / "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == f"rl-exporter: error: {str(tmp_path / 'x')!r}: {reason}\n"


TIMES = [
    "2030-01-01T12:00:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2030-01-01",
    "now",
    7,
    None,
]


@pytest.mark.parametrize("moment", TIMES)
def test_a_time_that_is_none_is_400(moment, out):
    for changes in ({"startsAt": moment}, {"status": "resolved", "endsAt": moment}):
        status, text = post(receiver_of(out), body(alert(**changes)))
        assert status == "400 Bad Request"
        assert text.count("\n") == 1
    assert out.getvalue() == ""


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"alerts":' * 100_000,
        b"[" * 500 + b"]" * 500,
        body(alert(labels={"x": {"deep": [[[]]] * 3}})).replace(b"[[[]]", b"[" * 900 + b"]" * 900 + b",[[]]"),
        b'{"alerts": [' + b"9" * 10_000 + b"]}",
        b"\xff\xfe{",
        b"",
    ],
)
def test_json_that_is_deep_or_none_is_400(content, out):
    status, text = post(receiver_of(out), content)
    assert status == "400 Bad Request"
    assert text.count("\n") == 1
    assert out.getvalue() == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=8
)  # fmt: skip
fields = st.sampled_from(["status", "labels", "annotations", "startsAt", "endsAt"])
changed = st.dictionaries(fields, anything | st.dictionaries(st.text(), st.text())).map(
    lambda some: alert(**some)
)


@given(anything | st.fixed_dictionaries({"alerts": st.lists(changed), "truncatedAlerts": anything}))
def test_no_body_is_a_fault_of_the_receiver(document):
    out = io.StringIO()
    status, text = post(receiver_of(out), json.dumps(document).encode())
    assert status in {"200 OK", "400 Bad Request"}
    assert text.count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_what_alertmanager_left_out_is_counted(out, monkeypatch):
    post(receiver_of(out), body(alert(), truncatedAlerts=7))
    assert out.getvalue().endswith("and 7 more alerts; Alertmanager's page lists them\n")
    monkeypatch.setattr(notification_module, "MAX_ALERTS", 2)
    out.truncate(0)
    post(receiver_of(out), body(*[alert()] * 5, truncatedAlerts=1))
    assert "and 4 more alerts" in out.getvalue()


def test_what_it_remembers_of_an_alert_does_not_grow_with_it():
    large = alert(labels={"alertname": "x" * 2**20})
    (parsed,) = notification_module.parse_notification({"alerts": [large]}).alerts
    assert len(parsed.identity) == 16
    (again,) = notification_module.parse_notification(
        {"alerts": [{**large, "startsAt": "2030-01-01T13:00:30+01:00"}]}
    ).alerts
    assert again.identity == parsed.identity


def of_a_fleet(runs):
    """The alerts of a lost network, each as large as Prometheus sends it."""
    (rule,) = [
        rule
        for group in yaml.safe_load((ROOT / "alerts/rules/training.yml").read_text())["groups"]
        for rule in group["rules"]
        if rule.get("alert") == "RLTrainingVanished"
    ]
    link = "http://prometheus.example.org:9090/graph?g0.expr=" + urllib.parse.quote_plus(rule["expr"])
    for number in range(runs):
        names = {"cluster": "lab", "run_id": f"run-{number:05d}", "instance": f"node{number}.example.org:28008"}
        texts = {
            name: re.sub(r"\{\{.*?\}\}", names["run_id"], text) for name, text in rule["annotations"].items()
        }
        yield {
            "labels": {"alertname": rule["alert"], **rule["labels"], **names},
            "annotations": texts,
            "generatorURL": link,
        }


@pytest.fixture
def stack(prometheus, alertmanager, tmp_path, secret):
    """Alertmanager, and a receiver that asks for the secret that Alertmanager's configuration names."""
    binaries = Binaries(prometheus=prometheus, alertmanager=alertmanager)
    with Stack(tmp_path / "stack", binaries, faster=5) as stack:
        configuration = stack.folder / "alerts/alertmanager.yml"
        authorization = f"        http_config: {{authorization: {{credentials_file: {secret}}}}}\n"
        text = configuration.read_text()
        configuration.write_text(
            text.replace("        send_resolved: true\n", f"        send_resolved: true\n{authorization}")
        )
        stack.start_pages("--secret-file", str(secret))
        stack.start_alertmanager()
        yield stack


@pytest.mark.stack
@pytest.mark.slow
def test_a_page_about_a_whole_fleet_arrives_with_the_secret_from_a_real_alertmanager(stack):
    url = f"http://{stack.alertmanager}/api/v2/alerts"
    request = urllib.request.Request(
        url, data=json.dumps(list(of_a_fleet(RUNS))).encode(), headers={"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=60).close()
    log = stack.log_path("pages")
    until(lambda: log.read_text().count("CRITICAL") == RUNS, seconds=120)
    forged = urllib.request.Request(
        f"http://{stack.pages}/", body(alert()), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(forged, timeout=10)
