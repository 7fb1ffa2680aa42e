"""The HTTP server of a run: /metrics, health, and a small landing page."""

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
from rl_exporter.server import landing_page
from rl_exporter.server.listen import ListenAddress
from rl_exporter.server.scrapers import Scrapers
from rl_exporter.snapshot import RunState, SanctumSnapshot

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_THREADS = 4
_REQUEST_SECONDS = 10
"""How long a client may take over a request, as it keeps a thread busy."""

_IDLE_SECONDS = 75
"""How long a connection may rest between two: longer than scrape intervals, so that scrapers keep theirs."""

_TIDYING_SECONDS = 10.0
"""How often it wakes without a request, to close idle connections."""
_TEXT = "text/plain; charset=utf-8"

Response = tuple[str, list[tuple[str, str]], bytes]


class MetricsServer:
    """Serves a run's snapshots from threads of its own; use as a context manager or start and stop it.

    ``snapshot`` is called for every request and must be quick and thread-safe.
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
        """Where it listens; port 0 becomes the port that was taken once the server has started."""
        self._server = _QuietServer(
            tuple(self.address), self._application, numthreads=_THREADS, max=_THREADS, timeout=_IDLE_SECONDS
        )
        self._server.shutdown_timeout = 1
        self._server.expiration_interval = _TIDYING_SECONDS
        self._bound: Future[None] = Future()
        self._stopping = threading.Event()
        # Threads inherit this flag: none that the server starts can keep a finished process alive.
        self._thread = threading.Thread(target=self._serve, name="metrics-server", daemon=True)

    @property
    def url(self) -> str:
        """Where a browser finds the landing page, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)  # noqa: S104
        return f"http://{ListenAddress(host, self.address.port)}"

    def start(self) -> None:
        """Listen and start to answer.

        Raises OSError, with a message that names the address and the remedy, when it cannot listen.
        """
        remedy = "give another address with --listen HOST:PORT (port 0 takes a free one)"
        if self.address.port and _is_taken(self.address):
            raise OSError(f"cannot listen on {self.address}: the port is in use; {remedy}")
        self._thread.start()
        try:
            self._bound.result()
        except OSError as error:
            raise OSError(f"cannot listen on {self.address}: {error}; {remedy}") from error
        host, port = self._server.bind_addr[:2]
        self.address = ListenAddress(host, port)
        threading.Thread(target=self._wake, name="metrics-server-stop", daemon=True).start()

    def _serve(self) -> None:
        try:
            self._server.prepare()
        except BaseException as error:  # noqa: BLE001 - whoever called start() is to see it
            self._bound.set_exception(error)
            return
        self._bound.set_result(None)
        self._server.serve()

    def stop(self) -> None:
        """Stop to answer and free the port."""
        self._stopping.set()
        self._server.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _wake(self) -> None:
        """Connect until it has stopped: it notices that it shall when something happens.

        On a thread that is there from the start: an interpreter that ends may start none any more.
        """
        self._stopping.wait()
        pause = 0.01
        while self._thread.is_alive() and _is_taken(self.address):
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
            status, headers, body = _text("404 Not Found", "not found; try /metrics\n")
        elif method not in ("GET", "HEAD"):
            status, headers, body = _text("405 Method Not Allowed", "use GET\n")
            headers.append(("Allow", "GET, HEAD"))
        else:
            status, headers, body = route(environ)
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _metrics(self, environ: WSGIEnvironment) -> Response:
        final = self._snapshot().run_state is not RunState.RUNNING
        gzip = gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body, content_type = self._renderer.render(environ.get("HTTP_ACCEPT", ""), gzip=gzip)
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if gzip:
            headers.append(("Content-Encoding", "gzip"))
        if "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS" in environ:
            client = (environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", ""))
            self.scrapers.scraped(client, final=final)
        return "200 OK", headers, body

    def _healthy(self, _environ: WSGIEnvironment) -> Response:
        return _text("200 OK", "healthy\n")

    def _ready(self, _environ: WSGIEnvironment) -> Response:
        if self._snapshot().tamiyo.updates:
            return _text("200 OK", "ready\n")
        return _text("503 Service Unavailable", "waiting for the first update\n")

    def _landing(self, _environ: WSGIEnvironment) -> Response:
        body = landing_page.landing_page(self._snapshot(), time.time())
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", landing_page.POLICY),
        ]
        return "200 OK", [*headers, ("Cache-Control", "no-store")], body.encode()


class _Connection(HTTPConnection):
    """Cheroot has one timeout for a request and for the rest between two; here they differ."""

    def __init__(self, server: wsgi.Server, sock: socket.socket, makefile: Any) -> None:
        super().__init__(server, sock, makefile)
        sock.settimeout(_REQUEST_SECONDS)


class _QuietServer(wsgi.Server):
    """A client that goes away mid-request is the client's matter, not a line in the training log."""

    ConnectionClass = _Connection

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:  # noqa: ARG002
        return


def _text(status: str, body: str) -> Response:
    return status, [("Content-Type", _TEXT)], body.encode()


def _is_taken(address: ListenAddress) -> bool:
    try:
        infos: list[Any] = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, _, _, target = infos[0]
        with socket.socket(family, kind) as probe:
            probe.settimeout(1)
            return probe.connect_ex(target) == 0
    except OSError:
        return False
