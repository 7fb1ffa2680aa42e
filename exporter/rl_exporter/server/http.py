"""The HTTP server of a run: /metrics, health probes, and a landing page.

It runs on cheroot, CherryPy's pure-Python server, which has what a port on a cluster needs: a bounded pool of
threads, connections that stay open between scrapes, limits on slow and idle clients, and a stop that lets
requests finish. The server of ``prometheus_client`` starts a thread for every connection, on the standard
library's wsgiref, whose documentation does not recommend it for production.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cheroot import wsgi
from cheroot.server import HTTPConnection
from prometheus_client.exposition import gzip_accepted

from rl_exporter.collector import Renderer
from rl_exporter.forks import in_forked_child, let_go_of_port
from rl_exporter.server import landing_page
from rl_exporter.server.listen import ListenAddress
from rl_exporter.server.scrapers import Scrapers
from rl_exporter.snapshot import RunState, SanctumSnapshot

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

# A scrape takes about a millisecond; more threads would only compete with the training.
_THREADS = 4
_REQUEST_SECONDS = 10
"""Time limit for a client to send its request, because it occupies a thread meanwhile."""

_IDLE_SECONDS = 75
"""Idle time between two requests. Longer than scrape intervals, so that scrapers keep their connection."""

_TIDYING_SECONDS = 10.0
"""Interval at which cheroot closes idle connections. Its default wakes a training machine twice a second."""

_TEXT = "text/plain; charset=utf-8"

Response = tuple[str, list[tuple[str, str]], bytes]
"""Status line, headers and body."""


class MetricsServer:
    """Serves a run's snapshots from daemon threads. A context manager, or call ``start`` and ``stop``.

    It calls ``snapshot`` for every request, so that must be fast and thread-safe.
    """

    def __init__(self, snapshot: Callable[[], SanctumSnapshot], listen: ListenAddress | None = None) -> None:
        self._snapshot = snapshot
        self._renderer = Renderer(snapshot)
        self.scrapers = Scrapers()
        self._routes: dict[str, Callable[[WSGIEnvironment], Response]] = {
            "/": self._landing,
            "/metrics": self._metrics,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
        }
        self.address = listen or ListenAddress()
        """Where it listens. Once it has started, the port that the system chose replaces port 0."""
        self._server = QuietServer(
            tuple(self.address), self._application, numthreads=_THREADS, max=_THREADS, timeout=_IDLE_SECONDS
        )
        # One second instead of five for open requests: the end of a run must not wait for a stuck client.
        self._server.shutdown_timeout = 1
        self._server.expiration_interval = _TIDYING_SECONDS
        self._bound: Future[None] = Future()
        self._stopping = threading.Event()
        self._inherited = False
        # cheroot's threads inherit this flag, so that none of them keeps a finished process alive.
        self._thread = threading.Thread(target=self._serve, name="metrics-server", daemon=True)

    @property
    def url(self) -> str:
        """URL of the landing page for a browser on this machine, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)  # noqa: S104 - replaced, not bound
        return f"http://{ListenAddress(host, self.address.port)}"

    def start(self) -> None:
        """Listen and serve. Raises OSError with the address and the remedy if it cannot listen."""
        remedy = "give another address with --listen HOST:PORT (port 0 takes a free one)"
        if self.address.port and _is_listening(self.address):
            raise OSError(f"cannot listen on {self.address}: the port is in use; {remedy}")
        self._thread.start()
        try:
            self._bound.result()
        except OSError as error:
            raise OSError(f"cannot listen on {self.address}: {error}; {remedy}") from error
        host, port = self._server.bind_addr[:2]
        self.address = ListenAddress(host, port)
        in_forked_child(self._let_go)
        threading.Thread(target=self._wake, name="metrics-server-stop", daemon=True).start()

    def _serve(self) -> None:
        try:
            self._server.prepare()
        except BaseException as error:  # noqa: BLE001 - start() waits for it and raises it
            self._bound.set_exception(error)
            return
        self._bound.set_result(None)
        self._server.serve()

    def _let_go(self) -> None:
        """In a forked child: keep neither the port nor a client waiting after the parent has died."""
        if not self._stopping.is_set():
            self._inherited = True
            let_go_of_port(self.address.port)

    def stop(self) -> None:
        """Stop serving and release the port. A forked child has nothing to stop."""
        if self._inherited:
            return
        self._stopping.set()
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _wake(self) -> None:
        """Wait for ``stop``, then connect until the server has stopped.

        cheroot checks its stop flag only when a connection arrives or ``_TIDYING_SECONDS`` have passed. This
        thread waits from the start, because a Python interpreter that shuts down cannot start new threads.
        """
        self._stopping.wait()
        pause = 0.01
        while self._thread.is_alive() and _is_listening(self.address):
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        route = self._routes.get(environ.get("PATH_INFO", "/"))
        if route is None:
            status, headers, body = text_response("404 Not Found", "not found; try /metrics")
        elif method not in ("GET", "HEAD"):
            status, headers, body = text_response("405 Method Not Allowed", "use GET")
            headers.append(("Allow", "GET, HEAD"))
        else:
            status, headers, body = route(environ)
        # With a length the connection can stay open; without one cheroot would send chunks.
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _metrics(self, environ: WSGIEnvironment) -> Response:
        # Before rendering: a run that ends in between was not shown as ended, and the scraper must come again.
        final = self._snapshot().run_state is not RunState.RUNNING
        gzip = gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body, content_type = self._renderer.render(environ.get("HTTP_ACCEPT", ""), gzip=gzip)
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if gzip:
            headers.append(("Content-Encoding", "gzip"))
        # Prometheus and its kin send this header; a browser or curl is no scraper to wait for at the end.
        if "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS" in environ:
            client = (environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", ""))
            self.scrapers.scraped(client, final=final)
        return "200 OK", headers, body

    def _healthy(self, _environ: WSGIEnvironment) -> Response:
        return text_response("200 OK", "healthy")

    def _ready(self, _environ: WSGIEnvironment) -> Response:
        if self._snapshot().tamiyo.updates:
            return text_response("200 OK", "ready")
        return text_response("503 Service Unavailable", "waiting for the first update")

    def _landing(self, _environ: WSGIEnvironment) -> Response:
        body = landing_page.landing_page(self._snapshot(), time.time())
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", landing_page.POLICY),
        ]
        # The page shows current numbers; a cached one would be mistaken for them.
        return "200 OK", [*headers, ("Cache-Control", "no-store")], body.encode()


class _Connection(HTTPConnection):
    """Limits a request. cheroot has one timeout for that and for the idle time between two requests."""

    def __init__(self, server: wsgi.Server, sock: socket.socket, makefile: Any) -> None:
        super().__init__(server, sock, makefile)
        sock.settimeout(_REQUEST_SECONDS)


class QuietServer(wsgi.Server):
    """Logs nothing: a client that disconnects in the middle of a request is no event of the training log."""

    ConnectionClass = _Connection

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Ignore the error."""


def text_response(status: str, line: str) -> Response:
    """A response with one line of plain text."""
    return status, [("Content-Type", _TEXT)], f"{line}\n".encode()


def _is_listening(address: ListenAddress) -> bool:
    try:
        infos: list[Any] = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, _, _, target = infos[0]
        with socket.socket(family, kind) as probe:
            probe.settimeout(1)
            return probe.connect_ex(target) == 0
    except OSError:
        return False
