"""An HTTP client whose time limit holds for a whole fetch: all addresses, redirects, headers and the body.

urllib3 and http.client limit each read. A server that sends a byte now and then, in its headers as well as in
its body, would keep them waiting for ever. Only the lookup of a name takes what the system's resolver allows.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

_LEAST_SECONDS = 0.001
"""A socket whose timeout is 0 does not time out: it does not block."""


class TimeLeft(urllib3.Timeout):
    """A limit on a whole request. A redirect, for which urllib3 makes a copy, gets what is left of it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(total=seconds)
        self._deadline = time.monotonic() + seconds

    def clone(self) -> urllib3.Timeout:
        """What is left now."""
        return urllib3.Timeout(total=_left(self._deadline))


def pool_manager(**options: Any) -> urllib3.PoolManager:
    """A PoolManager whose connections keep to the time that their request has left."""
    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), _LEAST_SECONDS)


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a deadline. Raises TimeoutError then."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._deadline = sock, time.monotonic() + (sock.gettimeout() or 0.0)
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("timed out")
        self._socket.settimeout(_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """What http.client asks a socket for when it reads a response."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._socket))


def _timed_response(sock: socket.socket, *arguments: Any, **options: Any) -> HTTPResponse:
    return HTTPResponse(cast("socket.socket", _TimedSocket(sock)), *arguments, **options)


def _connect(host: str, port: int, seconds: float) -> socket.socket:
    """Connect to the first address of ``host`` that answers; all of them together get ``seconds``."""
    deadline = time.monotonic() + seconds
    problem = OSError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(_left(deadline))
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            sock.settimeout(_left(deadline))  # for a TLS handshake
            return sock
    raise problem


class _HTTPConnection(HTTPConnection):
    response_class = cast("Callable[..., HTTPResponse]", staticmethod(_timed_response))  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _new_connection(self)


class _HTTPSConnection(HTTPSConnection):
    response_class = cast("Callable[..., HTTPResponse]", staticmethod(_timed_response))  # type: ignore[assignment]

    def _new_conn(self) -> socket.socket:
        return _new_connection(self)


def _new_connection(connection: HTTPConnection) -> socket.socket:
    """Connect, with the errors of urllib3."""
    try:
        return _connect(connection.host.strip("[]"), connection.port, cast("float", connection.timeout))
    except (socket.gaierror, UnicodeError) as error:
        reason = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(connection.host, connection, reason) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "timed out") from error
    except OSError as error:
        raise NewConnectionError(connection, f"Failed to establish a new connection: {error}") from error


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection
