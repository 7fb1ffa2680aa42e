"""More connections than a server keeps or has descriptors for, and two of one host (docs/security.md, Clients)."""

import http.client
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

import rl_exporter
from rl_exporter import ListenAddress
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits
from tests.hostile.bare_clients import HOUR, connect, connections, heard, hello, serving
from tests.support.waiting import until

pytestmark = pytest.mark.slow


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
