"""What clients can do to a server: nothing. Each test is one row of docs/security.md, Clients."""

import http.client
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

import rl_exporter
from rl_exporter import ListenAddress
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits
from tests.support.waiting import until

pytestmark = pytest.mark.slow

HOUR = 3600.0
BLOCK = b"x" * 2**16
PATIENT = Limits(request_seconds=HOUR, idle_seconds=HOUR)
"""Nothing ends because time has passed: what the server then does, it does for another reason."""


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@contextmanager
def serving(application=hello, limits=PATIENT):
    with HttpServer(application, ListenAddress(port=0), limits) as server:
        yield server


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def connect(server, said=b""):
    client = socket.create_connection(server.address, timeout=30)
    client.sendall(said)
    return client


def get(server, path="/", **headers):
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def heard(client):
    """Everything that the server says until it closes the connection."""
    said = b""
    try:
        while part := client.recv(2**16):
            said += part
    except ConnectionError:
        pass
    return said


def connections(server):
    return list(server._connections)


# 1. Memory

ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", BLOCK, b"431"),
    "headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n" * 10_000, b"431"),
    "a URI": (b"GET /", BLOCK, b"431"),
    "a method": (b"G", b"G" * 2**16, b"431"),
    "a body": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 629145600\r\n\r\n", BLOCK, b"413"),
    "a body in chunks": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + BLOCK + b"\r\n", b"413",
    ),
    "a body of a scrape": (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 629145600\r\n\r\n", BLOCK, b"413"),
    "a chunk's head": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;", BLOCK, b"4"),
    "empty lines": (b"\r\n", b"\r\n" * 2**15, b"4"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_refused_and_not_kept(kind):
    start, more, status = ENDLESS[kind]
    with serving() as server, connect(server, start) as client:
        sent = 0
        try:
            while sent < 2**26:
                sent += client.send(more)
        except ConnectionError:
            pass
        assert sent < 2**24, "the server read on"
        assert heard(client).startswith((b"HTTP/1.1 " + status, b"")[kind == "empty lines"])
        assert get(server) == b"hello"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"X: " + b"x" * 17_000, b"431"),  # whole, in one piece: h11 alone would take it
        (b"\r\n".join(b"H%d: x" % number for number in range(100)), b"431"),
        (b"X: " + b"x" * 15_000, b"200"),
        (b"Content-Length: 1", b"413"),
        (b"Content-Length: 99999999999999999999999", b"400"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 0", b"200"),
        (b"Transfer-Encoding: gzip, chunked", b"501"),
        (b"Content-Length: 1\r\nContent-Length: 2", b"400"),
        (b"X y: z", b"400"),
        (b"X:\x00", b"400"),
        (b"Expect: 100-continue", b"200"),
        (b"Upgrade: websocket\r\nConnection: upgrade", b"200"),
    ],
)
def test_the_head_of_a_request_has_limits(head, status):
    with (
        serving() as server,
        connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n") as client,
    ):
        assert client.recv(12) == b"HTTP/1.1 " + status
        if status != b"200":
            heard(client)  # until it closes: nobody knows where another request would begin


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_400(said):
    with serving() as server, connect(server, said + b"\r\n") as client:
        assert heard(client).startswith(b"HTTP/1.1 400")


def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen():
    seen = []

    def application(environ, start_response):
        seen.extend(name for name in environ if name.startswith("HTTP_X"))
        return hello(environ, start_response)

    with serving(application) as server:
        get(server, **{"X-Real": "1", "X_Forged": "1"})
    assert seen == ["HTTP_X_REAL"]


def test_answers_that_nobody_reads_are_not_made():
    made = []

    def large(environ, start_response):
        made.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"x" * 2**20]

    with serving(large) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        until(lambda: connections(server) and connections(server)[0]._sending)
        for _ in range(100):  # the server has time for more of them
            assert get(server, "/other")
        assert made.count("/") < 50


def test_made_up_user_agents_do_not_pile_up():
    scrape = {"X-Prometheus-Scrape-Timeout-Seconds": "10"}
    with rl_exporter.serve({"a": 4}, run_id="agents", listen="127.0.0.1:0", linger=0) as run:
        for number in range(400):
            get(run._server, "/metrics", **scrape, **{"User-Agent": f"{number} " + "x" * 12_000})
        known = run._server.scrapers._known
        assert sum(len(scraper.client[1]) for scraper in known) < 100_000


# 2. Idle and slow connections


def test_a_scrape_beside_idle_connections_is_answered(stack):
    server = stack.enter_context(serving())
    for _ in range(200):
        stack.enter_context(connect(server))
    threads = threading.active_count()
    assert get(server) == b"hello"
    assert threading.active_count() == threads


def test_a_scrape_beside_dripping_connections_is_answered(stack):
    server = stack.enter_context(serving())
    drips = [
        stack.enter_context(connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")) for _ in range(40)
    ]
    for _ in range(10):
        for drip in drips:
            drip.sendall(b"x")
        assert get(server) == b"hello"


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_request_has_one_deadline_however_it_drips(first):
    with (
        serving(limits=Limits(request_seconds=0.3, idle_seconds=HOUR)) as server,
        connect(server, first) as client,
    ):
        if first:
            assert client.recv(1000).endswith(b"hello")
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of them fails is a matter of time
            while True:
                client.sendall(b"GET / HTTP/1.1\r\nX: "[:1])
                time.sleep(0.02)


def test_an_answer_that_is_read_too_slowly_has_the_same_deadline():
    def large(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 2**25]

    with serving(large, Limits(request_seconds=0.3)) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: connections(server))
        until(lambda: not connections(server))


def test_a_kept_connection_rests_for_longer_than_a_request_may_take():
    with serving(limits=Limits(request_seconds=0.2, idle_seconds=HOUR)) as server, connect(server) as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).endswith(b"hello")
            time.sleep(0.5)


def test_a_rested_connection_is_closed():
    with serving(limits=Limits(request_seconds=HOUR, idle_seconds=0.1)) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert heard(client).endswith(b"hello")


def large_and_unread(server):
    client = connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    until(lambda: any(connection._sending for connection in connections(server)))
    return client


def rested(server):
    client = connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


@pytest.mark.parametrize(
    "client",
    [
        connect,
        lambda server: connect(server, b"GET / HTTP/1.1\r\nX:"),
        large_and_unread,
        rested,
        lambda server: connect(server, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"),
    ],
    ids=["idle", "half a request", "an answer unread", "resting", "refused"],
)
def test_a_server_stops_whatever_its_clients_do(client, stack):
    def large(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 2**23]

    server = HttpServer(large, ListenAddress(port=0), PATIENT)
    server.start()
    for _ in range(30):
        stack.enter_context(client(server))
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()
    assert not server._thread.is_alive()
    with pytest.raises(ConnectionError):
        connect(server)


def test_a_run_ends_at_once_beside_idle_connections(stack):
    run = rl_exporter.serve({"a": 4}, run_id="idle", listen="127.0.0.1:0", linger=0)
    for _ in range(60):
        stack.enter_context(connect(run._server))
    closing = threading.Thread(target=run.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()


def test_the_last_answer_arrives_although_the_server_stops_meanwhile():
    def large(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 2**24]

    server = HttpServer(large, ListenAddress(port=0), Limits(stop_seconds=60))
    server.start()
    with connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") as client:
        until(lambda: any(connection._sending for connection in connections(server)))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert len(heard(client)) > 2**24
        stopping.join()


def test_a_storm_of_requests_takes_a_share_of_a_core_and_everybody_gets_a_turn(stack):
    spent = 0.0

    def costly(environ, start_response):
        nonlocal spent
        until_then = time.thread_time() + 0.005
        while time.thread_time() < until_then:
            pass
        spent += 0.005
        return hello(environ, start_response)

    limits = Limits(share=0.1, burst_seconds=0.05, request_seconds=HOUR)
    server = stack.enter_context(serving(costly, limits))
    started = time.monotonic()
    for _ in range(20):
        client = stack.enter_context(connect(server))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
    for _ in range(2):
        assert get(server) == b"hello"
    assert spent <= 0.1 * (time.monotonic() - started) + 0.05 + 0.01


def test_requests_of_clients_that_have_gone_do_not_wait(stack):
    server = stack.enter_context(serving(limits=Limits(share=1e-6, burst_seconds=0.0, request_seconds=HOUR)))
    assert get(server) == b"hello"
    for _ in range(50):
        with connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            until(lambda: server._pace._waiting)
        until(lambda: not connections(server))
    assert server._pace._waiting == {}


# 3. Number


def test_the_number_of_connections_has_a_limit_and_the_oldest_makes_room(stack):
    server = stack.enter_context(serving(limits=Limits(connections=8, request_seconds=HOUR)))
    clients = [stack.enter_context(connect(server)) for _ in range(20)]
    for client in clients[:12]:
        assert heard(client) == b""
    clients[-1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert clients[-1].recv(1000).endswith(b"hello")
    assert len(connections(server)) == 8


def test_a_scraper_keeps_its_connection_through_a_flood(stack):
    server = stack.enter_context(serving(limits=Limits(connections=8, request_seconds=HOUR)))
    scraper = stack.enter_context(connect(server))
    for _ in range(3):
        scraper.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert scraper.recv(1000).endswith(b"hello")
        flood = [stack.enter_context(connect(server)) for _ in range(20)]
        for client in flood[:13]:
            assert heard(client) == b""


def test_the_address_with_the_most_connections_makes_room(stack):
    limits = Limits(connections=8, request_seconds=HOUR)
    server = stack.enter_context(HttpServer(hello, ListenAddress("0.0.0.0", 0), limits))
    here = ("127.0.0.1", server.address.port)

    def kept(source):
        client = stack.enter_context(socket.create_connection(here, timeout=30, source_address=(source, 0)))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")
        return client

    scraper = kept("127.0.0.2")
    for _ in range(20):
        kept("127.0.0.3")
    scraper.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert scraper.recv(1000).endswith(b"hello")


WITHOUT_DESCRIPTORS = """
import resource, sys, time
from contextlib import suppress
from rl_exporter import ListenAddress
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits

def hello(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
files = []
with HttpServer(hello, ListenAddress(port=0), Limits(connections=MOST, request_seconds=3600)) as server:
    print(server.address.port, flush=True)
    with suppress(OSError):
        while FILES:
            files.append(open("/dev/null"))
    print("ready", flush=True)
    sys.stdin.readline()
    before = time.process_time()
    sys.stdin.readline()
    print(time.process_time() - before, flush=True)
    files.clear()
    sys.stdin.readline()
"""


@pytest.mark.parametrize(
    ("limit", "files"),
    [(20, False), (1000, False), (20, True)],
    ids=["the limit is lower", "the limit is higher", "others have them all"],
)
def test_a_process_without_file_descriptors_does_not_spin(limit, files, stack):
    code = WITHOUT_DESCRIPTORS.replace("MOST", str(limit)).replace("FILES", str(files))
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    port = int(process.stdout.readline())
    assert process.stdout.readline() == "ready\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 300, "this test opens 120 connections"
    idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(120)]
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(2)
    process.stdin.write("\n")
    process.stdin.flush()
    assert float(process.stdout.readline()) < 0.3
    # And it still serves who comes.
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        for other in idle:
            other.close()
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")


def test_a_scrape_is_answered_beside_more_connections_than_descriptors(stack):
    """Accepted one a second, the line before it would take a minute and a half."""
    code = WITHOUT_DESCRIPTORS.replace("MOST", "1000").replace("FILES", "False")
    process = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    port = int(process.stdout.readline())
    for _ in range(120):
        stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    with socket.create_connection(("127.0.0.1", port), timeout=45) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(1000).endswith(b"hello")
    process.communicate("\n\n\n")


# 6. The end of a run


class Replica:
    """One of two Prometheus servers of one host: it keeps its connection, as Prometheus does."""

    def __init__(self, run):
        self.connection = http.client.HTTPConnection(*run._server.address, timeout=30)

    def final(self):
        headers = {"User-Agent": "Prometheus/3.5.0", "X-Prometheus-Scrape-Timeout-Seconds": "10"}
        self.connection.request("GET", "/metrics", headers=headers)
        return b'state="completed"} 1.0' in self.connection.getresponse().read()


def test_the_end_reaches_both_of_two_scrapers_with_one_address_and_agent():
    run = rl_exporter.serve({"a": 4}, run_id="pair", listen="127.0.0.1:0", linger=60)
    one, two = Replica(run), Replica(run)
    for _ in range(3):
        assert not one.final()
        assert not two.final()
    closing = threading.Thread(target=run.close)
    closing.start()
    until(one.final)
    assert one.final()
    assert closing.is_alive()
    assert two.final()
    closing.join(30)
    assert not closing.is_alive()
    one.connection.close()
    two.connection.close()
