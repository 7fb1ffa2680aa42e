"""From a request as h11 reads it to a WSGI application (PEP 3333), and back to one whole response."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

import h11

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

Response = tuple[str, list[tuple[str, str]], bytes]
"""Status line, headers and body."""

TEXT = "text/plain; charset=utf-8"


def text_response(status: str, line: str) -> Response:
    """A response with one line of plain text."""
    return status, [("Content-Type", TEXT)], f"{line}\n".encode()


def environment(request: h11.Request, body: bytes, of_connection: Mapping[str, Any]) -> WSGIEnvironment:
    """The WSGI environment of a request. Raises ValueError for a target that is no URL."""
    target = request.target.decode("ascii")
    # urlsplit would read //name/path as a name; only a target with a scheme has one.
    parts = urlsplit(target if not target.startswith("/") else f"http://{target}")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        # X_Name would pass for X-Name, which a proxy in front may have checked.
        if b"_" not in name:
            key = "HTTP_" + name.decode("ascii").upper().replace("-", "_")
            text = value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
    return {
        **headers,
        **of_connection,
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SCRIPT_NAME": "",
        "rl_exporter.authority": parts.netloc,
        "PATH_INFO": unquote_to_bytes(parts.path).decode("latin-1"),
        "QUERY_STRING": parts.query,
        "CONTENT_TYPE": headers.get("HTTP_CONTENT_TYPE", ""),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def call(application: WSGIApplication, environ: WSGIEnvironment) -> Response:
    """The application's whole response. An application that fails answers 500, and nothing else happens."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_error: Any) -> Any:
        started.append((status, headers))

    try:
        body = b"".join(application(environ, start_response))
        status, headers = started[-1]
    except Exception:  # noqa: BLE001 - a fault in one answer must not end the thread that answers the others
        return text_response("500 Internal Server Error", "the server failed to answer this request")
    return status, headers, body
