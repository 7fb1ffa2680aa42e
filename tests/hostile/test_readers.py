"""Who may read: names, certificates, passwords, and how little a stranger can make a trainer compute."""

import base64
import http.client
import itertools
import logging
import os
import socket
import ssl
import threading
from contextlib import ExitStack, suppress

import bcrypt
import pytest
import trustme

import rl_exporter
from rl_exporter import ListenAddress, MetricsServer
from rl_exporter.server.gate import Gate
from rl_exporter.server.limits import Limits
from rl_exporter.server.live_config import LiveConfig
from rl_exporter.server.logins import Logins, TooManyLoginsError
from rl_exporter.server.web_config import LoadedWebConfig
from tests.support.certificates import HASH, PASSWORD, Certificates
from tests.support.panel_runs import ratio_run
from tests.support.waiting import until

USERS = {"prometheus": HASH}
GOOD = f"prometheus:{PASSWORD}"


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


@pytest.fixture
def attentive(monkeypatch):
    """Changes of files are seen at once."""
    monkeypatch.setattr("rl_exporter.server.live_config._LOOK_SECONDS", 0.0)


def serving(web_config=None, host="127.0.0.1", limits=None, **options):
    gate = Gate(web_config, **options)
    return MetricsServer(ratio_run(0.4).snapshot, ListenAddress(host, 0), gate=gate, limits=limits)


def trusting(certificates, name=None):
    """A client's context, with the certificate of that name."""
    context = ssl.create_default_context(cafile=certificates.authority_file)
    if name:
        context.load_cert_chain(certificates.folder / f"{name}.pem", certificates.folder / f"{name}.key")
    return context


def basic(login):
    return "Basic " + base64.b64encode(login.encode()).decode()


def ask(server, path="/metrics", tls=None, login=None, **headers):
    """Status and headers of an answer."""
    address = ("127.0.0.1", server.address.port)
    if tls:
        connection = http.client.HTTPSConnection(*address, timeout=30, context=tls)
    else:
        connection = http.client.HTTPConnection(*address, timeout=30)
    if login:
        headers["Authorization"] = basic(login)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    finally:
        connection.close()


def status(*arguments, **options):
    return ask(*arguments, **options)[0]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "rl_exporter"]


# Names


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


# TLS and certificates


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


# Passwords


@pytest.fixture
def guarded(tmp_path):
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{prometheus: '{HASH}'}}")
    with serving(config) as server:
        yield server


@pytest.mark.parametrize(
    "login",
    ["prometheus:wrong", "prometheus:", f"nobody:{PASSWORD}", "prometheus:" + "x" * 5000, ":", "prometheus:\0"],
    ids=["wrong", "empty", "unknown user", "long", "nothing", "nul"],
)
def test_a_bad_login_is_refused(guarded, login):
    answer, headers = ask(guarded, login=login)
    assert answer == 401
    assert headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "authorization", ["", "Basic", "Basic !!!", "Bearer x", "Basic cHJvbWV0aGV1cw==", "Basic /w=="]
)
def test_what_is_no_login_costs_no_bcrypt(guarded, authorization):
    asked = []
    guarded._gate._logins._checkpw = lambda *given: asked.append(given)
    assert status(guarded, Authorization=authorization) == 401
    assert asked == []


def test_a_good_login_reads_every_page_and_costs_bcrypt_once(guarded):
    asked = []
    guarded._gate._logins._checkpw = lambda *given: asked.append(given) or bcrypt.checkpw(*given)
    for path in ("/metrics", "/", "/api/v1/heads", "/-/healthy", "/metrics"):
        assert status(guarded, path, login=GOOD) == 200
        assert status(guarded, path) == 401
    assert len(asked) == 1


def test_replicas_that_log_in_at_once_share_one_check():
    checking, asked = threading.Event(), []
    logins = Logins(checkpw=lambda *given: asked.append(given) or checking.wait(30))
    both = [logins.check(USERS, basic(GOOD), "10.0.0.1") for _ in range(2)]
    checking.set()
    assert [result.result(30) for result in both] == [True, True]
    assert len(asked) == 1


def test_a_password_changes_without_a_restart(tmp_path, attentive):
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users: {{prometheus: '{HASH}'}}")
    with serving(config) as server:
        assert status(server, login=GOOD) == 200
        new = bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode()
        config.write_text(f"basic_auth_users: {{prometheus: '{new}', other: '{new}'}}")
        assert status(server, login=GOOD) == 401
        until(lambda: status(server, login="prometheus:new") == 200)


def test_bad_logins_of_one_address_are_held_back():
    now = 100.0
    asked = []
    logins = Logins(lambda: now, lambda password, hashed: asked.append(password) or password == b"good")
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    for number in range(1000):
        with pytest.raises(TooManyLoginsError):
            logins.check(USERS, basic(f"prometheus:{number}"), "10.0.0.1")
    assert logins.check(USERS, basic("prometheus:good"), "10.0.0.2").result(30) is True
    assert logins.check(USERS, basic("prometheus:good"), "10.0.0.1") is True, "a known one is never held back"
    now += 1.1
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    assert len(asked) == 3


def test_bad_logins_of_many_addresses_wait_in_a_short_line():
    checking = threading.Event()
    logins = Logins(checkpw=lambda password, hashed: checking.wait(30) and False)
    refused = 0
    for number in range(1000):
        try:
            logins.check(USERS, basic(f"prometheus:{number}"), f"10.0.{number // 256}.{number % 256}")
        except TooManyLoginsError:
            refused += 1
    assert refused > 950
    assert len(logins._held_until) <= 256
    checking.set()


def test_a_bad_login_is_followed_by_a_rest_of_nine_times_its_duration():
    now, rests, rested = 10.0, [], threading.Event()

    def slow(password, hashed):
        nonlocal now
        now += 0.25
        return False

    logins = Logins(lambda: now, slow, lambda seconds: rests.append(seconds) or rested.set())
    assert logins.check(USERS, basic("prometheus:bad"), "10.0.0.1").result(30) is False
    assert rested.wait(30)
    assert rests == [pytest.approx(2.25)]


def test_an_unknown_user_costs_what_a_known_one_does():
    asked = []
    logins = Logins(lambda: 0.0, lambda *given: asked.append(given) or True)
    assert logins.check(USERS, basic("nobody:x"), "10.0.0.1").result(30) is False
    assert [hashed for _, hashed in asked] == [HASH.encode()]


def test_the_cache_holds_neither_passwords_nor_bad_logins():
    logins = Logins(checkpw=lambda password, hashed: password == b"secret-password")
    assert logins.check(USERS, basic("prometheus:secret-password"), "10.0.0.1").result(30)
    assert not logins.check(USERS, basic("prometheus:other"), "10.0.0.2").result(30)
    assert len(logins._good) == 1
    assert b"secret-password" not in next(iter(logins._good))


def test_a_flood_of_logins_leaves_a_known_scraper_alone(guarded):
    assert status(guarded, login=GOOD) == 200
    for number in range(50):
        assert status(guarded, login=f"prometheus:{number}") in {401, 429}
        assert status(guarded, login=GOOD) == 200


def test_headers_of_the_file_are_on_every_answer(certificates):
    headers = {"Strict-Transport-Security": "max-age=31536000", "X-Frame-Options": "deny"}
    with serving(certificates.web_config(users=USERS, headers=headers)) as server:
        for path, login in (("/metrics", GOOD), ("/", None)):
            got = ask(server, path, tls=trusting(certificates), login=login)[1]
            assert {name: got[name] for name in headers} == headers


def test_no_secret_reaches_the_log_or_an_error(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    config = tmp_path / "web.yml"
    config.write_text("basic_auth_users: {prometheus: my-plain-password}")
    with pytest.raises(ValueError, match="no bcrypt hash") as told:
        Gate(config)
    assert "my-plain-password" not in str(told.value) + caplog.text


@pytest.mark.parametrize("kind", ["device", "pipe", "large", "folder", "nothing"])
def test_what_is_no_file_is_no_configuration(kind, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (2**20 + 1))
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=rf"{kind}'.*; give a YAML file"):
        Gate(tmp_path / kind)
