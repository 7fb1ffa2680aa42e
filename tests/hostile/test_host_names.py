"""Under which names a server answers, and that one which is open to everybody says so."""

import socket

import pytest

import rl_exporter
from tests.hostile.reading import said, serving, status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:28008", 200),
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("localhost.", 200),
        ("[::1]:9", 200),
        (f"{socket.gethostname()}:28008", 200),
        ("trainer:28008", 200),
        ("evil.example", 403),
        ("evil.example:28008", 403),
        ("localhost.evil.example", 403),
        ("10.1.2.3", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("localhost@evil.example", 403),
        ("<script>", 403),
        ("[::1]evil.example", 403),
        ("[::1", 403),
        ("[::1].evil.example:9", 403),
    ],
)
def test_a_name_that_is_not_ours_is_refused(host, expected):
    """Else a page under a name that somebody points at this machine (DNS rebinding) could read it."""
    with serving(allowed_hosts=["trainer"]) as server:
        assert status(server, Host=host) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://evil.example/metrics", 403),
        ("http://localhost.evil.example:9/metrics", 403),
        ("http://localhost:9/metrics", 200),
        ("http://[::1/metrics", 400),
        ("//evil.example/metrics", 404),
    ],
)
def test_the_name_in_a_target_counts_too(target, expected):
    """A server has to believe the name of a whole URL rather than Host (RFC 9112, 3.2.2); // begins a path."""
    with serving() as server, socket.create_connection(tuple(server.address), timeout=10) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert int(client.recv(1024).split()[1]) == expected


def test_a_server_on_every_address_answers_to_any_address_and_to_no_other_name():
    with serving(host="0.0.0.0") as server:
        assert status(server, Host="10.1.2.3:28008") == 200
        assert status(server, Host="[fd00::1]:28008") == 200
        assert status(server, Host="evil.example") == 403


def test_a_run_answers_to_the_address_that_it_is_registered_under(tmp_path):
    register = rl_exporter.Discovery(tmp_path, advertise="node12.lab.example:7000")
    with rl_exporter.serve({"a": 2}, listen="127.0.0.1:0", linger=0, register=register) as run:
        assert status(run._server, Host="node12.lab.example:7000") == 200
        assert status(run._server, Host="node13.lab.example:7000") == 403


def test_an_open_door_is_said_once(caplog, certificates):
    with serving(host="0.0.0.0"), serving(host="127.0.0.1"), serving(certificates.web_config(), host="0.0.0.0"):
        pass
    (line,) = said(caplog)
    assert "0.0.0.0:" in line
    assert "--web.config.file" in line
