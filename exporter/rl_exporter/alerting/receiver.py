"""``rl-exporter pages``: a webhook receiver that prints Alertmanager's pages, and serves the runbooks."""

from __future__ import annotations

import html
import io
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from markdown_it import MarkdownIt

from rl_exporter.alerting.admission import Admission
from rl_exporter.alerting.bundle import runbook, served_runbook, shipped
from rl_exporter.alerting.notification import (
    WATCHDOG,
    Alert,
    NotificationError,
    format_page,
    parse_notification,
    single_line,
    utc_now,
)
from rl_exporter.guarded import parse_json
from rl_exporter.server.gate import Gate
from rl_exporter.server.http_server import HttpServer
from rl_exporter.server.limits import Limits
from rl_exporter.server.listen import ListenAddress
from rl_exporter.server.wsgi import Response, text_response

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_MAX_BODY_BYTES = 16 * 2**20
"""A lost network pages a whole fleet at once. An alert takes 2.4 kB, most of it the link with the expression,
and alertmanager.yml sends at most 4,000 in one notification."""

_LIMITS = Limits(connections=16, body_bytes=_MAX_BODY_BYTES)
_MAX_KNOWN_ALERTS = 10_000
"""The receiver runs for months: it forgets the oldest alerts instead of growing."""

_STYLE = (
    "body{max-width:50rem;margin:2rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif}"
    "pre{background:#f4f4f4;padding:.75rem;overflow-x:auto;font-size:14px}code{font-family:ui-monospace,monospace}"
    "td,th{border:1px solid #ccc;padding:.25rem .5rem;text-align:left}table{border-collapse:collapse}"
)


class PageReceiver:
    """A WSGI application: POST / takes Alertmanager's notifications, GET /runbooks/NAME returns a runbook.

    It writes pages to ``out``. If that fails it answers with status 500, so that Alertmanager delivers again.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        colour: bool = False,
        clock: Callable[[], datetime] = utc_now,
        admission: Admission | None = None,
    ) -> None:
        self._out = out
        self._admission = admission or Admission()
        self._colour = colour
        self._clock = clock
        self._lock = threading.Lock()
        # A dict as an ordered set: the first key is the oldest alert.
        self._known: dict[bytes, None] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle one request."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "/") or "/"
        try:
            status, headers, body = self._post(environ) if method == "POST" else _get(method, path)
        except OSError as error:
            status, headers, body = text_response(
                "500 Internal Server Error", f"the page could not be taken: {error}"
            )
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _post(self, environ: WSGIEnvironment) -> Response:
        if environ.get("PATH_INFO", "/") not in ("", "/"):
            return text_response("404 Not Found", "notifications go to /")
        refusal = self._admission.refusal(environ)
        if refusal is not None:
            return refusal
        with self._lock:  # pages from several threads must not mix, and one body at a time is enough memory
            try:
                notification = parse_notification(parse_json(environ["wsgi.input"].read()))
            except (NotificationError, ValueError) as error:
                return text_response(
                    "400 Bad Request", f"{error}; configure this address as a webhook of Alertmanager"
                )
            for alert in notification.alerts:
                self._show(alert)
            if notification.left_out:
                self._out.write(f"and {notification.left_out} more alerts; Alertmanager's page lists them\n")
                self._out.flush()
        return text_response("200 OK", "printed")

    def _show(self, alert: Alert) -> None:
        known = alert.identity in self._known
        if alert.name == WATCHDOG:
            # It fires all the time: one line shows that the path works, and its repetitions would bury real
            # pages.
            if not known:
                self._out.write(
                    f"{self._clock().astimezone():%H:%M:%S}  {alert.annotations.get('summary', '')}\n"
                )
        else:
            self._out.write(format_page(replace(alert, known=known), now=self._clock(), colour=self._colour))
        self._out.flush()
        if alert.ends:
            self._known.pop(alert.identity, None)
            return
        self._known[alert.identity] = None
        if len(self._known) > _MAX_KNOWN_ALERTS:
            del self._known[next(iter(self._known))]


def _get(method: str, path: str) -> Response:
    if method not in ("GET", "HEAD"):
        return text_response("405 Method Not Allowed", "use GET, or POST to /")
    if path in ("/", "/runbooks", "/runbooks/"):
        return _index()
    if path == "/-/healthy":
        return text_response("200 OK", "healthy")
    found = runbook(path.removeprefix("/runbooks/")) if path.startswith("/runbooks/") else None
    if found is None:
        return text_response("404 Not Found", f"no page {single_line(path)!r}; /runbooks/ lists what there is")
    text = served_runbook(found.read_text("utf-8"))
    return _html(found.stem, _rendered(text))


def _rendered(text: str) -> str:
    """Markdown as HTML. Headings have the anchors that GitHub gives them, because runbooks link to them."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", re.sub(r"[^\w\- ]", "", inline.content.lower()).replace(" ", "-"))
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _index() -> Response:
    names = sorted(path.stem for path in (shipped() / "alerts" / "runbooks").glob("*.md"))
    items = "".join(f'<li><a href="/runbooks/{name}">{name}</a></li>' for name in names)
    return _html("Runbooks", f"<h1>Runbooks</h1><p>What to do about each alert.</p><ul>{items}</ul>")


def _html(title: str, body: str) -> Response:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    text = f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    return "200 OK", [("Content-Type", "text/html; charset=utf-8")], text.encode()


def serve_pages(address: ListenAddress, gate: Gate | None = None, secret_file: Path | None = None) -> int:
    """Receive pages until SIGINT or SIGTERM. Returns the exit status.

    Raises OSError with the remedy if it cannot listen, or if ``secret_file`` holds no secret.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # its encoding may lack a character of a page
    receiver = PageReceiver(sys.stdout, colour=sys.stdout.isatty(), admission=Admission(secret_file))
    # systemd and Kubernetes send SIGTERM; like Ctrl-C it ends the block below.
    signal.signal(signal.SIGTERM, _interrupt)
    with HttpServer(receiver, address, _LIMITS, gate) as server, suppress(KeyboardInterrupt):
        at = f"{server.scheme}://{server.address}"
        sys.stdout.write(f"pages arrive at {at}/, runbooks are at {at}/runbooks/\n")
        sys.stdout.flush()
        threading.Event().wait()
    return 0


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
