"""The HTTP server of a run: /metrics, the heads as JSON, health probes, and a landing page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rl_exporter.collector import Renderer
from rl_exporter.server import landing_page
from rl_exporter.server.gate import Gate
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits
from rl_exporter.server.listen import ListenAddress
from rl_exporter.server.scrapers import Scrapers
from rl_exporter.server.wsgi import Response, text_response
from rl_exporter.snapshot import RunState, SanctumSnapshot
from rl_exporter.view.document import json_line

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class MetricsServer(HttpServer):
    """Serves a run's snapshots from a daemon thread. A context manager, or call ``start`` and ``stop``.

    It calls ``snapshot`` for every request, so that must be fast and thread-safe. ``scrapers`` are those of a
    server that this one replaces.
    """

    def __init__(
        self,
        snapshot: Callable[[], SanctumSnapshot],
        listen: ListenAddress | None = None,
        *,
        limits: Limits | None = None,
        gate: Gate | None = None,
        scrapers: Scrapers | None = None,
    ) -> None:
        super().__init__(self._application, listen or ListenAddress(), limits, gate)
        self._snapshot = snapshot
        self._renderer = Renderer(snapshot)
        self.scrapers = scrapers or Scrapers()
        self._document: tuple[SanctumSnapshot, bytes] | None = None
        self._routes: dict[str, Callable[[WSGIEnvironment], Response]] = {
            "/": self._landing,
            "/metrics": self._metrics,
            "/api/v1/heads": self._heads,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
        }

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
        start_response(status, headers)
        return [body]

    def _metrics(self, environ: WSGIEnvironment) -> Response:
        # Before rendering: a run that ends in between was not shown as ended, and the scraper must come again.
        final = self._snapshot().run_state is not RunState.RUNNING
        gzip = _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body, content_type = self._renderer.render(environ.get("HTTP_ACCEPT", ""), gzip=gzip)
        headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
        if gzip:
            headers.append(("Content-Encoding", "gzip"))
        # Prometheus and its kin send this header; a browser or curl is no scraper to wait for at the end. An
        # answer to HEAD shows nobody that the run has ended.
        if "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS" in environ and environ["REQUEST_METHOD"] == "GET":
            client = (environ["REMOTE_ADDR"], environ.get("HTTP_USER_AGENT", ""))
            self.scrapers.scraped(client, environ["rl_exporter.connection"], final=final)
        return "200 OK", headers, body

    def _heads(self, _environ: WSGIEnvironment) -> Response:
        snapshot = self._snapshot()
        # Until the next update the snapshot is the same object, so a poll costs no rendering.
        if self._document is None or self._document[0] is not snapshot:
            self._document = snapshot, f"{json_line(snapshot)}\n".encode()
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        return "200 OK", headers, self._document[1]

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


def _accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header names gzip and does not rule it out with ``q=0`` (RFC 9110, 12.4.2)."""
    for part in header.lower().split(","):
        coding, *parameters = (word.strip() for word in part.split(";"))
        if coding == "gzip":
            return not any(word.startswith("q=") and not word.strip("q=0.") for word in parameters)
    return False
