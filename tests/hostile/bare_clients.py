"""A server with nothing behind it, and clients that say to it whatever bytes a test gives them."""

import http.client
import socket
from contextlib import contextmanager

from rl_exporter import ListenAddress
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits

HOUR = 3600.0
PATIENT = Limits(request_seconds=HOUR, idle_seconds=HOUR)
"""Nothing ends because time has passed: what the server then does, it does for another reason."""


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@contextmanager
def serving(application=hello, limits=PATIENT):
    with HttpServer(application, ListenAddress(port=0), limits) as server:
        yield server


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
