"""One client's connection: it reads requests within the limits, and writes answers within their deadline."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import h11

from rl_exporter.server.gate import Gate, unauthorized
from rl_exporter.server.limits import Limits
from rl_exporter.server.pace import Pace
from rl_exporter.server.wsgi import Response, call, environment, text_response

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

_TLS_CLOSE_SECONDS = 1.0


class _RefusedError(Exception):
    """A request that is answered with ``status`` before it was read as a whole."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status


class Connection(asyncio.Protocol):
    """One client's connection. It costs a socket, a parser and a timer, and no thread.

    ``gone`` is called once, when the socket is closed.
    """

    def __init__(
        self,
        application: WSGIApplication,
        gate: Gate,
        limits: Limits,
        pace: Pace,
        address: str,
        gone: Callable[[Connection], None],
    ) -> None:
        self.address = address
        self.is_open = True
        self.dropped = False
        self.served = False
        """Whether it has been answered at least once."""

        self.busy = False
        """Whether it waits for its turn, for a login, or until its client has read more of an answer."""

        self.since = time.monotonic()
        """When it began to wait for what it waits for."""

        self._application = application
        self._gate = gate
        self._limits = limits
        self._pace = pace
        self._gone = gone
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._sending = self._answered = self._idle = False
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[Any] | None = None
        self._timer = self._loop.call_later(limits.request_seconds, self.drop)

    def open(self, sock: socket.socket) -> None:
        """Begin to talk on an accepted socket. The TLS handshake has the time of a request."""
        tls = self._gate.tls()
        seconds = self._limits.request_seconds
        times = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": _TLS_CLOSE_SECONDS} if tls else {}
        self._opening = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: self, sock, ssl=tls, **times)
        )
        self._opening.add_done_callback(partial(self._opened, sock))

    def _opened(self, sock: socket.socket, opening: asyncio.Task[Any]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            sock.close()
            self.connection_lost(None)

    def close(self) -> None:
        """Close after what is being sent; at once where nothing is."""
        if self._transport is None:
            self.drop()
        else:
            self._transport.close()

    def drop(self) -> None:
        """Close at once. The socket goes a few rounds of the loop later, and ``gone`` is called then."""
        self.dropped = True
        if self._transport is not None:
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        # Without a buffer "not paused" means that the kernel has the whole answer. Not 0: asyncio's TLS
        # transport pauses at the limit itself, and would wait for a buffer that is already empty.
        self._transport.set_write_buffer_limits(1)
        if not self._gate.allows_peer(self._transport.get_extra_info("peercert")):
            self.drop()

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget everything."""
        self._timer.cancel()
        self._pace.forget(self)
        if self.is_open:
            self.is_open = False
            self._gone(self)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self._idle:
            self._idle = False
            self._wait(self._limits.request_seconds)
        self._http.receive_data(data)
        if self.busy and self._transport is not None:
            # No more than this until the request before it is answered. Not earlier: a client that goes away
            # meanwhile is noticed by reading.
            self._transport.pause_reading()
        else:
            self._advance()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: make no further answer meanwhile."""
        self._sending = True

    def resume_writing(self) -> None:
        """The kernel has everything."""
        self._sending = False
        if self._answered:
            self._next_request()

    # A request, from its first byte to the last byte of its answer.

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.drop)
        self.since = time.monotonic()

    def _advance(self) -> None:
        """Go through what has arrived, up to a whole request, and answer that."""
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self._take_head(event)
                elif isinstance(event, h11.Data):
                    self._take_body(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._answer()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(HTTPStatus(error.error_status_hint))
        except _RefusedError as error:
            self._refuse(error.status)

    def _take_head(self, request: h11.Request) -> None:
        size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self._limits.header_bytes or len(request.headers) > self._limits.headers:
            raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        for name, value in request.headers:
            # What a client announces is refused before it sends it; without a length it sends chunks.
            if name == b"content-length" and int(value) > self._limits.body_bytes:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        self._request = request
        self._body.clear()
        if self._limits.body_bytes and self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))

    def _take_body(self, part: bytes) -> None:
        self._body += part
        if len(self._body) > self._limits.body_bytes:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _answer(self) -> None:
        assert self._request is not None
        try:
            environ = environment(self._request, bytes(self._body), self._described())
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        refusal = self._gate.refusal(environ)
        if refusal is None:
            self._take_turn(environ)
        elif isinstance(refusal, Future):
            self._wait_for_login(environ, refusal)
        else:
            self._respond(refusal)

    def _wait_for_login(self, environ: WSGIEnvironment, login: Future[bool]) -> None:
        """Answer when another thread has checked the login; meanwhile the loop serves the others."""
        self.busy = True

        def checked(done: Future[bool]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server has stopped
                self._loop.call_soon_threadsafe(self._logged_in, environ, done.result())

        login.add_done_callback(checked)

    def _logged_in(self, environ: WSGIEnvironment, good: bool) -> None:
        if good:
            self._take_turn(environ)
        elif self._is_connected():
            self._respond(unauthorized())

    def _take_turn(self, environ: WSGIEnvironment) -> None:
        if self._pace.has_to_wait(self, partial(self._serve, environ)):
            self.busy = True

    def _serve(self, environ: WSGIEnvironment) -> None:
        if self._is_connected():
            self._respond(call(self._application, environ))

    def _is_connected(self) -> bool:
        return self.is_open and self._transport is not None and not self._transport.is_closing()

    def _described(self) -> dict[str, Any]:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        scheme = "https" if self._transport.get_extra_info("ssl_object") else "http"
        return {
            "REMOTE_ADDR": self.address,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "wsgi.url_scheme": scheme,
            "rl_exporter.connection": self,
        }

    def _respond(self, response: Response, *, close: bool = False) -> None:
        assert self._transport is not None
        status, headers, body = response
        code, _, reason = status.partition(" ")
        own = {"Date": formatdate(usegmt=True), "Content-Length": str(len(body))}
        last = {"Connection": "close"} if close else {}
        every = {**own, **dict(headers), **self._gate.headers(), **last}
        head = h11.Response(status_code=int(code), reason=reason.encode("ascii"), headers=list(every.items()))
        without_body = self._request is not None and self._request.method == b"HEAD"
        self._send(head, *([] if without_body else [h11.Data(data=body)]), h11.EndOfMessage())
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._transport.close()
        elif self._sending:
            self.busy = self._answered = True
        else:
            self._next_request()

    def _send(self, *events: h11.Event) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer, and close: where the next request begins is not known."""
        assert self._transport is not None
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._transport.close()
            return
        line = f"{status} {status.phrase}"
        self._respond(text_response(line, status.description or status.phrase), close=True)

    def _next_request(self) -> None:
        if not self._is_connected():
            return
        assert self._transport is not None
        self.served, self.busy, self._answered = True, False, False
        self._request = None
        self._http.start_next_cycle()
        self._idle = not self._http.trailing_data[0]
        self._wait(self._limits.idle_seconds if self._idle else self._limits.request_seconds)
        self._transport.resume_reading()
        if not self._idle:
            # Not here: a client that sends requests without end gets its turn after the others.
            self._loop.call_soon(self._advance)
