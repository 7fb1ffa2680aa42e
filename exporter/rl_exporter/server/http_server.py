"""The HTTP server: one thread with an event loop for all clients, however many and however slow.

asyncio moves the bytes and h11 reads the protocol. A connection that has not sent its request is an entry in a
table: no thread waits for it. docs/server.md compares this with the servers that were measured beside it.
"""

from __future__ import annotations

import asyncio
import errno
import selectors
import socket
import threading
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rl_exporter.forks import in_forked_child, let_go_of, let_go_of_port
from rl_exporter.server.connection import Connection
from rl_exporter.server.gate import Gate, without_port
from rl_exporter.server.limits import Limits
from rl_exporter.server.listen import ListenAddress, ListenError
from rl_exporter.server.pace import Pace

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_BACKLOG = 1024
"""Connections that the kernel keeps until we accept them. Beyond it a client tries again after a second."""

_NO_DESCRIPTOR_SECONDS = 1.0
"""Pause before the next accept when the process has no file descriptor left: at once it would fail again."""

_FEWER_SECONDS = 60.0
"""How long fewer connections are kept after that."""


class HttpServer:
    """Serves a WSGI application to many clients from one daemon thread. A context manager, or start and stop.

    The application runs in that thread, one request after the other, so it must be fast. ``gate``
    says which requests reach it.
    """

    def __init__(
        self,
        application: WSGIApplication,
        listen: ListenAddress,
        limits: Limits | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.address = listen
        """Where it listens. Once it has started, the port that it got replaces port 0 and AUTO."""

        self._application = application
        self._limits = limits or Limits()
        self._gate = gate or Gate()
        self._connections: set[Connection] = set()
        self._most = self._limits.connections
        self._stopping = False
        # The flag keeps none of it alive in a finished process.
        self._thread = threading.Thread(target=self._run, name="http-server", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether it serves now."""
        return self._thread.is_alive()

    @property
    def scheme(self) -> str:
        """http or https."""
        return self._gate.scheme

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)  # noqa: S104 - replaced, not bound
        return f"{self.scheme}://{ListenAddress(host, self.address.port)}"

    def reached_at(self, address: str) -> None:
        """Answer to the name in ``address``, HOST:PORT, under which others find this server."""
        self._gate.allow_host(without_port(address))

    def start(self) -> None:
        """Listen and serve. Raises ListenError, an OSError with address and remedy, if it cannot listen."""
        self._listener = _first_free(self.address)
        host, port = self._listener.getsockname()[:2]
        self.address = ListenAddress(host, port)
        self._gate.listening(self.address)
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        # A client that disconnects in the middle of something, or is slow, is no event of the training log.
        self._loop.set_debug(False)
        self._loop.set_exception_handler(lambda _loop, _context: None)
        self._pace = Pace(self._loop, self._limits.share, self._limits.burst_seconds)
        self._loop.add_reader(self._listener, self._accept)
        self._thread.start()
        in_forked_child(self._let_go)

    def _let_go(self) -> None:
        """In a forked child: keep neither the port nor a client waiting after the parent has died."""
        if not self._stopping:
            let_go_of_port(self.address.port)
            # What the child removed from the selector would be gone from the parent's, too.
            let_go_of(self._selector.fileno())

    def stop(self) -> None:
        """Stop serving and release the port, within ``stop_seconds`` whatever the clients do.

        A forked child has nothing to stop: it does not have the thread.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._begin_stop)
            self._thread.join(timeout=self._limits.stop_seconds + 5)
            self._gate.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # In the server's thread.

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _begin_stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in list(self._connections):
            connection.close()
        self._loop.call_later(self._limits.stop_seconds, self._drop_all)
        self._stop_when_alone()

    def _drop_all(self) -> None:
        for connection in list(self._connections):
            connection.drop()
        # The loop ends when the last one is gone, a few rounds from now, or then in any case.
        self._loop.call_later(0.1, self._loop.stop)

    def _stop_when_alone(self) -> None:
        if self._stopping and not self._connections:
            self._loop.stop()

    def _accept(self) -> None:
        """Accept one connection a round, so that never more than one is open beyond the limit."""
        try:
            client, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            return
        except OSError:
            self._keep_fewer()
            return
        client.setblocking(False)
        self._make_room(self._most)
        connection = Connection(
            self._application, self._gate, self._limits, self._pace, address[0], self._forget
        )
        self._connections.add(connection)
        connection.open(client)

    def _keep_fewer(self) -> None:
        """Leave room for the next: who waits in line would else be accepted one a pause, a scraper the last."""
        self._most = max(1, min(self._most, len(self._connections) - 1))
        self._make_room(1)
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_NO_DESCRIPTOR_SECONDS, self._accept_again)
        self._loop.call_later(_FEWER_SECONDS, self._keep_as_many_as_before)

    def _keep_as_many_as_before(self) -> None:
        self._most = self._limits.connections

    def _accept_again(self) -> None:
        if not self._stopping:
            self._loop.add_reader(self._listener, self._accept)

    def _make_room(self, limit: int) -> None:
        """Where ``limit`` connections are open, drop one that can best be spared.

        That is an idle one, of the address that has the most, without a request before one that had some, and
        of these the oldest. A scraper that keeps its connection thus outlasts a flood, even from its own host.
        """
        open_ones = [connection for connection in self._connections if not connection.dropped]
        if len(open_ones) >= limit:
            of_address = Counter(connection.address for connection in open_ones)
            min(open_ones, key=lambda c: (c.busy, -of_address[c.address], c.served, c.since)).drop()

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._stop_when_alone()


def _first_free(address: ListenAddress) -> socket.socket:
    """A socket that listens at the first of the address's candidates that is free. Raises ListenError."""
    in_use, candidates = None, address.candidates()
    for candidate in candidates:
        try:
            return _listener(candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ListenError(address, str(error.strerror or error)) from error
            in_use = error
    several = f"ports {candidates[0].port} to {candidates[-1].port} are"
    which = several if len(candidates) > 1 else "the port is"
    raise ListenError(address, f"{which} in use", in_use=True) from in_use


def _listener(address: ListenAddress) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
    both = address.host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server(tuple(address), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener
