"""Whatever answers at an address that others put into a directory: one line, in bounded time and memory.

A slow server here ends with the whole answer of a run after ten seconds and notes whether its client stayed for it,
so the tests need no clock.
"""

import contextlib
import gzip
import math
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rl_exporter.client import fetch
from rl_exporter.client.addresses import parse_target
from rl_exporter.client.fetch import Fetcher, UnreachableError
from rl_exporter.client.parse import NotAnExporterError, parse_snapshot
from tests.support.bad_servers import BODY, answering, http

pytestmark = pytest.mark.slow

HEAD, SEPARATOR, REST = http(BODY).partition(b"\r\n\r\n")
LIMIT = 0.5


class Slowly:
    """Sends one part every tenth of a second, so that no single read ever times out."""

    def __init__(self, parts, then=b""):
        self._parts, self._then = parts, then
        self.waited_for = False

    def __call__(self, connection, stop):
        for part in self._parts:
            connection.sendall(part)
            if stop.wait(0.1):
                return
        self.waited_for = True
        connection.sendall(self._then)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = HEAD + SEPARATOR + REST
SLOW = {
    "the status line": Slowly([b"H", b"T", b"T", b"P", b"/", b"1", b".", b"1", *[b" "] * 100], WHOLE[8:]),
    "headers": Slowly([b"HTTP/1.1 200 OK\r\n", *[b"X-Wait: yes\r\n"] * 100], WHOLE.partition(b"\r\n")[2]),
    "interim responses": Slowly([b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, WHOLE),
    "the size of a chunk": Slowly([CHUNKED, *[b"0"] * 100], b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    "what follows the last chunk": Slowly(
        [CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY), *[b"X-Wait: yes\r\n"] * 100], b"\r\n"
    ),
    "the body": Slowly([HEAD + SEPARATOR, *(REST[at : at + 1] for at in range(100))], REST[100:]),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_server_that_drips_is_given_up(name):
    with (
        answering(SLOW[name]) as address,
        pytest.raises(UnreachableError, match=r"no (whole )?answer within 0.5 s"),
    ):
        Fetcher(timeout=LIMIT).fetch(parse_target(address))
    assert not SLOW[name].waited_for


def test_redirects_share_the_time_of_one_request():
    turns = []

    def redirect(connection, stop):
        turns.append(1)
        stop.wait(LIMIT * 0.7)
        connection.sendall(
            http(b"", status="302 Found", extra="Location: /next\r\n") if len(turns) < 3 else WHOLE
        )

    with answering(redirect) as address, pytest.raises(UnreachableError, match=r"no answer within"):
        Fetcher(timeout=LIMIT).fetch(parse_target(address))


@contextlib.contextmanager
def deaf():
    """An address that never answers a connection: its queue is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_all_addresses_of_a_name_share_the_time_of_one(monkeypatch):
    """A name may have hundreds of addresses, each of which would get the whole time."""
    tried = []
    real = socket.socket.connect

    def connect(self, address):
        tried.append(address)
        real(self, address)

    with deaf() as address:
        info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [info] * 5)
        monkeypatch.setattr(socket.socket, "connect", connect)
        with pytest.raises(UnreachableError, match=r"no answer within 0.5 s"):
            Fetcher(timeout=LIMIT).fetch(parse_target("many.example:9"))
    assert len(tried) == 1


def test_a_tls_handshake_that_never_ends_is_given_up():
    hello = b"\x16\x03\x03\x40\x00"  # a record of 16 KiB, of which a byte comes now and then

    server = Slowly([hello, *[b"\x02"] * 100])
    with answering(server) as address, pytest.raises(UnreachableError, match=r"no answer within|TLS"):
        Fetcher(timeout=LIMIT).fetch(parse_target(f"https://{address}"))
    assert not server.waited_for


def test_a_compressed_bomb_is_not_unpacked():
    bomb = gzip.compress(gzip.compress(bytes(2**24)))
    answer = http(bomb, extra="Content-Encoding: gzip, gzip\r\n")
    with (
        answering(lambda connection, stop: connection.sendall(answer)) as address,
        pytest.raises(UnreachableError, match="its answer is compressed, although"),
    ):
        Fetcher().fetch(parse_target(address))


TEXT = BODY.decode()


@pytest.mark.parametrize(
    "text",
    [
        "a{" + ",".join(f'l{n}="x"' for n in range(10_000)) + "} 1\n" + TEXT,
        "# HELP a " + "x" * 2**17 + "\n" + TEXT,
        TEXT + "# x\n" * 100_000,
    ],
    ids=["many labels", "a long line", "many lines"],
)
def test_a_body_that_would_take_long_to_parse_is_refused_before(text):
    with pytest.raises(NotAnExporterError, match=r"more than 100000 lines of 64 KiB"):
        parse_snapshot(text)


def test_a_head_that_claims_more_choices_than_there_are_atoms_costs_no_memory():
    line = next(line for line in TEXT.splitlines() if line.startswith("rl_policy_head_entropy_max_nats{"))
    for nats in (40.0, 200.0):
        body = TEXT.replace(line, f"{line.rpartition(' ')[0]} {nats}")
        (head,) = parse_snapshot(body).tamiyo.heads
        assert head.choices == round(math.exp(nats))


def test_a_name_that_cannot_be_one_is_one_line():
    for host in ("a..b", "x" * 64 + ".example", "xn--" + "9" * 60):
        with pytest.raises(UnreachableError, match="cannot be resolved"):
            Fetcher(timeout=LIMIT).fetch(parse_target(f"{host}:9"))


def test_no_answer_is_a_fault_of_the_reader():
    rng = random.Random(0)
    answers = [WHOLE, CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)]

    def noisy(connection, stop):
        answer = bytearray(rng.choice(answers)[: rng.choice((200, 2000, None))])
        for _ in range(rng.randrange(1, 6)):
            answer[rng.randrange(min(len(answer), 400))] = rng.randrange(256)
        connection.sendall(answer)

    fetcher, outcomes = Fetcher(timeout=5), set()
    with answering(noisy) as address:
        for _ in range(200):
            try:
                fetcher.fetch(parse_target(address))
                outcomes.add("run")
            except UnreachableError as error:
                outcomes.add(f"refused in {len(str(error).splitlines())} line")
    assert outcomes == {"run", "refused in 1 line"}


def test_one_body_is_parsed_at_a_time(monkeypatch):
    """Parsed, a body of 8 MiB takes ten times that, and "targets list" asks 32 addresses at once."""
    at_once, most = [], []

    def slow(body):
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.05)
        at_once.pop()
        return parse_snapshot(body.decode())

    monkeypatch.setattr(fetch, "_snapshot", slow)
    fetcher = Fetcher()
    with contextlib.ExitStack() as servers, ThreadPoolExecutor(4) as pool:
        targets = [
            parse_target(servers.enter_context(answering(lambda connection, stop: connection.sendall(WHOLE))))
            for _ in range(4)
        ]
        assert len(list(pool.map(fetcher.fetch, targets))) == 4
    assert max(most) == 1
