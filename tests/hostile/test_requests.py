"""What a client can say to a server: requests without end, and what is none (docs/security.md, Clients)."""

import pytest

import rl_exporter
from tests.hostile.bare_clients import connect, connections, get, heard, hello, serving
from tests.support.waiting import until

pytestmark = pytest.mark.slow

BLOCK = b"x" * 2**16

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
