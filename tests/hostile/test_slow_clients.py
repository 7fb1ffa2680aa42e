"""Clients that are idle, slow or in a hurry keep nobody waiting (docs/security.md, Clients)."""

import threading
import time

import pytest

import rl_exporter
from rl_exporter import ListenAddress
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits
from tests.hostile.bare_clients import HOUR, PATIENT, connect, connections, get, heard, hello, serving
from tests.support.waiting import until

pytestmark = pytest.mark.slow


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
