"""The receiver of pages: what a person reads, what a browser gets, and what it refuses."""

import io
import json
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from wsgiref.util import setup_testing_defaults

import pytest

from rl_exporter.alerting.receiver import PageReceiver
from rl_exporter.alerting.rewriting import REPOSITORY_URL
from rl_exporter.cli.main import main
from tests.support import ROOT

NOW = datetime(2030, 1, 1, 12, 5, tzinfo=UTC)


def alert(status="firing", starts="2030-01-01T12:00:30.123456789Z", name="RLPolicyHeadCollapsed", **labels):
    return {
        "status": status,
        "labels": {"alertname": name, "severity": "critical", "run_id": "drill", "head": "op", **labels},
        "annotations": {
            "summary": "Head op of run drill has collapsed (effective entropy 0.009)",
            "description": "Head op of run drill has had a low ratio.",
            "evidence": "WAIT at 97 % of its decisions, the same whatever it sees",
            "return": "return 2.41, its best so far 3.56",
            "level": "critical",
            "aggregate": "the total over all heads reads 6.98 nats",
            "runbook_url": "http://127.0.0.1:28009/runbooks/RLPolicyHeadCollapsed",
            "dashboard_url": "http://127.0.0.1:3000/d/rl-heads?var-run_id=drill",
        },
        "startsAt": starts,
        "endsAt": "2030-01-01T12:04:59.123456789Z" if status == "resolved" else "0001-01-01T00:00:00Z",
    }


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def receiver(out):
    return PageReceiver(out, clock=lambda: NOW)


def ask(receiver, method="GET", path="/", body=b""):
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    setup_testing_defaults(environ)
    answer = {}

    def start_response(status, headers):
        answer.update(status=status, headers=dict(headers))

    text = b"".join(receiver(environ, start_response)).decode()
    return answer["status"], answer["headers"], text


def post(receiver, *alerts):
    return ask(receiver, "POST", body=json.dumps({"version": "4", "alerts": alerts}).encode())[0]


def test_a_page_says_what_since_when_and_where_to_read_on(receiver, out):
    assert post(receiver, alert(cluster="lab")) == "200 OK"
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("CRITICAL  Head op of run drill has collapsed (effective entropy 0.009)")
    assert lines[1].strip() == "WAIT at 97 % of its decisions, the same whatever it sees"
    assert lines[2].strip() == "Head op of run drill has had a low ratio."
    assert lines[3].startswith("          level critical; since ")
    told = "; return 2.41, its best so far 3.56; the total over all heads reads 6.98 nats"
    assert lines[3].endswith(f" (4 min 30 s){told}")
    assert lines[4].strip() == "cluster lab"
    assert lines[5].strip() == "what to do: http://127.0.0.1:28009/runbooks/RLPolicyHeadCollapsed"
    assert lines[6].strip() == "dashboard:  http://127.0.0.1:3000/d/rl-heads?var-run_id=drill"


def test_a_repetition_and_a_resolution_are_one_line(receiver, out):
    post(receiver, alert())
    out.truncate(0)
    post(receiver, alert())
    assert out.getvalue().count("\n") == 1
    assert "critical, still" in out.getvalue()
    out.truncate(0)
    post(receiver, alert("resolved"))
    assert out.getvalue().count("\n") == 1
    assert "RESOLVED" in out.getvalue()
    assert "after 4 min 29 s" in out.getvalue()
    out.truncate(0)
    post(receiver, alert(starts="2030-01-01T12:04:59Z"))
    assert "CRITICAL" in out.getvalue()


def test_the_watchdog_is_announced_once(receiver, out):
    for _ in range(3):
        post(receiver, alert(name="RLMonitoringWatchdog"))
    assert out.getvalue().count("\n") == 1


def test_nothing_in_a_page_steers_the_terminal(receiver, out):
    hostile = alert()
    hostile["annotations"]["summary"] = "x\x1b[2J\ny\x07 ü"
    post(receiver, hostile)
    assert "\x1b" not in out.getvalue()
    assert "x�[2J y� ü" in out.getvalue()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "Expecting"),
        (b"[]", "no list 'alerts'"),
        (b'{"alerts": [1]}', "lacks or garbles"),
        (json.dumps({"alerts": [alert(starts="yesterday")]}).encode(), "lacks or garbles"),
        (b"\xff", "decode"),
    ],
)
def test_what_is_no_notification_is_refused_with_the_reason(receiver, out, body, reason):
    status, _, text = ask(receiver, "POST", body=body)
    assert status == "400 Bad Request"
    assert reason in text
    assert text.count("\n") == 1
    assert out.getvalue() == ""


def test_a_page_that_cannot_be_written_is_asked_for_again():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    receiver = PageReceiver(Full(), clock=lambda: NOW)
    assert post(receiver, alert()).startswith("500")


def test_runbooks_are_served_as_html(receiver):
    status, headers, text = ask(receiver, path="/runbooks/RLPolicyHeadCollapsed")
    assert (status, headers["Content-Type"]) == ("200 OK", "text/html; charset=utf-8")
    assert '<h1 id="rlpolicyheadcollapsed">RLPolicyHeadCollapsed</h1>' in text
    assert '<a href="/runbooks/RLTrainingStalled">' in ask(receiver, path="/")[2]
    assert ask(receiver, "HEAD", "/runbooks/RLPolicyHeadCollapsed")[2] == ""


def test_every_link_of_a_served_runbook_leads_somewhere(receiver):
    names = re.findall(r'href="/runbooks/(\w+)"', ask(receiver, path="/")[2])
    assert len(names) > 10
    for name in names:
        for link, anchor in re.findall(
            r'href="([^"#]*)(?:#([^"]*))?"', ask(receiver, path=f"/runbooks/{name}")[2]
        ):
            local = link.removeprefix(f"{REPOSITORY_URL}/")
            if local != link:
                assert (ROOT / local).exists(), f"{name}: {link}"
            elif not link.startswith("http"):
                status, _, page = ask(receiver, path=f"/runbooks/{link or name}")
                assert status == "200 OK", f"{name}: {link}"
                assert not anchor or f' id="{anchor}"' in page, f"{name}: {link}#{anchor}"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/runbooks/RLNothing", "404 Not Found"),
        ("GET", "/runbooks/../rules/heads", "404 Not Found"),
        ("GET", "/etc/passwd", "404 Not Found"),
        ("PUT", "/", "405 Method Not Allowed"),
        ("POST", "/runbooks/", "404 Not Found"),
        ("GET", "/-/healthy", "200 OK"),
    ],
)
def test_other_requests(receiver, method, path, status):
    assert ask(receiver, method, path)[0] == status


def test_bad_addresses_are_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["pages", "--listen", "nowhere"])
    assert stopped.value.code == 2
    assert "'nowhere' is not HOST:PORT" in capsys.readouterr().err


def test_a_busy_port_is_one_line_and_status_2():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code = "import sys; from rl_exporter.cli.main import main; sys.exit(main())"
        command = [sys.executable, "-c", code, "pages", "--listen", listen]
        refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert f"cannot listen on {listen}" in refused.stderr
    assert "--listen" in refused.stderr
    assert refused.stderr.count("\n") == 1
