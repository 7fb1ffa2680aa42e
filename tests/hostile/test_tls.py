"""Who may read by certificate, and a web configuration that changes, has headers or cannot be read."""

import http.client
import itertools
import os
import socket
import ssl
import threading
from contextlib import ExitStack, suppress

import pytest
import trustme

from rl_exporter.server.gate import Gate
from rl_exporter.server.limits import Limits
from rl_exporter.server.live_config import LiveConfig
from rl_exporter.server.web_config import LoadedWebConfig
from tests.hostile.reading import GOOD, USERS, ask, said, serving, status, trusting
from tests.support.waiting import until


def test_without_tls_nothing_is_read(certificates):
    with serving(certificates.web_config()) as server:
        assert server.url.startswith("https://")
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server)
        assert status(server, tls=trusting(certificates)) == 200


def test_only_certificates_of_the_authority_may_ask(certificates):
    certificates.issue("prometheus", "prometheus.example")
    certificates.issue("stranger", "prometheus.example", authority=trustme.CA())
    with serving(certificates.mutual()) as server:
        assert status(server, tls=trusting(certificates, "prometheus")) == 200
        for name in (None, "stranger"):
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(server, tls=trusting(certificates, name))


def test_only_certificates_with_an_allowed_name_may_ask(certificates):
    certificates.issue("prometheus", "prometheus.example")
    certificates.issue("grafana", "grafana.example")
    with serving(certificates.mutual(client_allowed_sans=["prometheus.example", "10.0.0.1"])) as server:
        assert status(server, tls=trusting(certificates, "prometheus")) == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server, tls=trusting(certificates, "grafana"))


@pytest.mark.parametrize("allowed", ["fd00::1", "FD00:0::1"])
def test_an_address_of_a_certificate_is_compared_as_an_address(certificates, allowed):
    """OpenSSL spells fd00::1 out."""
    path = certificates.mutual(client_allowed_sans=[allowed])
    web = LoadedWebConfig(path)
    assert web.allows_peer({"subjectAltName": (("IP Address", "FD00:0:0:0:0:0:0:1"),)})
    assert not web.allows_peer({"subjectAltName": (("IP Address", "FD00:0:0:0:0:0:0:2"),)})
    assert not web.allows_peer({"subjectAltName": (("DNS", "fd00"),)})


def test_a_change_while_the_file_is_read_is_not_missed(tmp_path):
    """Between the reading and the look at the file it may have become another one."""
    path = tmp_path / "file"
    path.write_text("x")

    def read(path):
        """Somebody changes the file right after each reading, until it has three characters."""
        content = path.read_text()
        if len(content) < 3:
            path.write_text(content + "x")
        return content

    clock = itertools.count(step=10.0)
    live = LiveConfig(path, read, lambda _content: (), clock=lambda: next(clock))
    assert [live.get() for _ in range(3)][-1] == "xxx"


def test_old_versions_of_tls_are_refused(certificates):
    with serving(certificates.web_config(min_version="TLS13")) as server:
        old = trusting(certificates)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server, tls=old)
        assert status(server, tls=trusting(certificates)) == 200


def secure(server, certificates):
    plain = socket.create_connection(server.address, timeout=30)
    return trusting(certificates).wrap_socket(plain, server_hostname="127.0.0.1")


def test_cipher_suites_are_those_of_the_file(certificates):
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = certificates.web_config(cipher_suites=[suite], max_version="TLS12")
    with serving(config) as server, secure(server, certificates) as client:
        assert client.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


def test_a_certificate_changes_without_a_restart(certificates, attentive):
    with serving(certificates.web_config()) as server:
        with secure(server, certificates) as client:
            before = client.getpeercert()["serialNumber"]
        certificates.issue("server", "127.0.0.1")
        with secure(server, certificates) as client:
            assert client.getpeercert()["serialNumber"] != before


def test_a_change_that_cannot_be_used_is_said_once_and_changes_nothing(certificates, attentive, caplog):
    config = certificates.web_config()
    with serving(config) as server:
        (certificates.folder / "server.key").write_text("half a k")
        for _ in range(3):
            assert status(server, tls=trusting(certificates)) == 200
        config.write_text("basic_auth_user: {}")
        for _ in range(3):
            assert status(server, tls=trusting(certificates)) == 200
        certificates.issue("server", "127.0.0.1")
        certificates.web_config(users=USERS)
        assert status(server, tls=trusting(certificates)) == 401
    first, second = said(caplog)
    assert "server.key" in first
    assert "'basic_auth_user'" in second


def test_handshakes_that_never_end_hold_nobody_up(certificates):
    with ExitStack() as stack:
        server = stack.enter_context(serving(certificates.web_config(), limits=Limits(request_seconds=3600)))
        for number in range(100):
            client = stack.enter_context(socket.create_connection(server.address, timeout=30))
            client.sendall(b"\x16\x03\x01"[: number % 4])
        assert status(server, tls=trusting(certificates)) == 200
        until(lambda: len(server._connections) <= Limits().connections)
        stopping = threading.Thread(target=server.stop, daemon=True)
        stopping.start()
        stopping.join(60)
        assert not stopping.is_alive()


def test_a_handshake_has_the_deadline_of_a_request(certificates):
    with (
        serving(certificates.web_config(), limits=Limits(request_seconds=0.2)) as server,
        socket.create_connection(server.address, timeout=30) as client,
    ):
        client.sendall(b"\x16\x03")
        with suppress(ConnectionError):
            assert client.recv(1) == b""


def test_headers_of_the_file_are_on_every_answer(certificates):
    headers = {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "deny"}
    with serving(certificates.web_config(users=USERS, headers=headers)) as server:
        for path, login in (("/metrics", GOOD), ("/", None)):
            got = ask(server, path, tls=trusting(certificates), login=login)[1]
            assert {name: got[name] for name in headers} == headers


@pytest.mark.parametrize("kind", ["device", "pipe", "large", "folder", "nothing"])
def test_what_is_no_file_is_no_configuration(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (2**20 + 1))
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=rf"{kind}'.*; give a YAML file"):
        Gate(tmp_path / kind)
