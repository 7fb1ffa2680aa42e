"""What a hostile network does to a port, each until ``stop`` is set, at a rate that a test can state.

An attack ignores what its victim answers, and connects again when it is thrown out.
"""

import contextlib
import random
import socket
import threading

BLOCK = b"x" * 65_536


def connected(address, seconds=5):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def idle_flood(address, stop, rate=50):
    """Connections that say nothing; the last 200 stay open."""
    held = []
    while not stop.wait(1 / rate):
        with contextlib.suppress(OSError):
            held.append(connected(address))
        if len(held) > 200:
            held.pop(0).close()
    for connection in held:
        connection.close()


def drips(address, stop, rate=100, width=20):
    """Requests that arrive byte by byte, on ``width`` connections."""
    connections = [None] * width
    turn = 0
    while not stop.wait(1 / rate):
        turn = (turn + 1) % width
        try:
            if connections[turn] is None:
                connections[turn] = connected(address)
                connections[turn].sendall(b"GET /metrics HTTP/1.1\r\nX-Wait: ")
            connections[turn].sendall(b"y")
        except OSError:
            _close(connections[turn])
            connections[turn] = None
    for connection in connections:
        _close(connection)


def large_headers(address, stop, rate=5):
    """Heads of a mebibyte, and bodies that nobody asked for."""
    for head in _alternating(
        b"GET /metrics HTTP/1.1\r\nX-Fill: ", b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n"
    ):
        if stop.wait(1 / rate):
            return
        with contextlib.suppress(OSError), connected(address) as connection:
            connection.sendall(head)
            for _ in range(16):
                connection.sendall(BLOCK)


def _alternating(*values):
    while True:
        yield from values


def fuzz(address, stop, rate=30):
    """Noise, and requests with a few bytes changed."""
    rng = random.Random(0)
    while not stop.wait(1 / rate):
        request = bytearray(
            b"GET /metrics HTTP/1.1\r\nHost: run\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
        )
        if rng.random() < 0.3:
            request = bytearray(rng.randbytes(rng.randrange(1, 2000)))
        for _ in range(rng.randrange(4)):
            request[rng.randrange(len(request))] = rng.randrange(256)
        with contextlib.suppress(OSError), connected(address) as connection:
            connection.sendall(request)
            if rng.random() < 0.5:
                connection.settimeout(0.2)
                connection.recv(65_536)


def scrape_storm(address, stop, rate=60):
    """Scrapes of a dozen impatient clients, half of which close before they have read."""
    patient = 0
    while not stop.wait(1 / rate):
        patient = 1 - patient
        with contextlib.suppress(OSError), connected(address) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            while patient and connection.recv(65_536):
                pass


def _close(connection):
    if connection is not None:
        connection.close()


ATTACKS = (idle_flood, drips, large_headers, fuzz, scrape_storm)


@contextlib.contextmanager
def under(address, *attacks):
    """Carry out the attacks during the block."""
    stop = threading.Event()
    threads = [threading.Thread(target=attack, args=(address, stop), daemon=True) for attack in attacks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
