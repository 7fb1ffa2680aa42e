"""Who may post a notification: Alertmanager, and no web page that somebody on this machine looks at.

A browser sends the posts of any page to any address, 127.0.0.1 included. It says so in headers that no page
can leave out, and that Alertmanager never sends.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING

from rl_exporter.guarded import read_file
from rl_exporter.server.wsgi import Response, text_response

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

_OF_BROWSERS = ("HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE", "HTTP_REFERER")
_JSON = "application/json"
_UNSTATED = ("", "application/x-www-form-urlencoded")
"""No type, and what curl and urllib say where nobody stated one. A form that a browser posts under it is
percent-encoded, which is no JSON."""

_MAX_SECRET_BYTES = 4096


class Admission:
    """Decides on posts. ``secret_file`` holds what Alertmanager sends as ``Authorization: Bearer …``.

    The file is read for each post, so that a new secret needs no restart. Raises OSError, with the remedy, if
    it holds none.
    """

    def __init__(self, secret_file: Path | None = None) -> None:
        self._secret_file = secret_file
        self._secret()

    def refusal(self, environ: WSGIEnvironment) -> Response | None:
        """Why a post is not taken; None if it is. Raises OSError if the secret cannot be read."""
        if any(header in environ for header in _OF_BROWSERS):
            return text_response("403 Forbidden", "a web page may not post notifications")
        content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if content_type != _JSON and content_type not in _UNSTATED:
            return text_response("415 Unsupported Media Type", f"a notification is {_JSON}")
        secret = self._secret()
        if secret is None or hmac.compare_digest(_given(environ), secret):
            return None
        status, headers, body = text_response(
            "401 Unauthorized",
            "give Alertmanager the same secret: http_config, authorization, credentials_file",
        )
        return status, [*headers, ("WWW-Authenticate", "Bearer")], body

    def _secret(self) -> bytes | None:
        if self._secret_file is None:
            return None
        try:
            secret = read_file(self._secret_file, _MAX_SECRET_BYTES).strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OSError(f"{str(self._secret_file)!r}: {reason}; give a file with a secret") from error
        if not secret:
            raise OSError(f"{str(self._secret_file)!r}: it is empty; write a secret into it")
        return secret


def _given(environ: WSGIEnvironment) -> bytes:
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return str(credentials).strip().encode("latin-1") if scheme.lower() == "bearer" else b""
