"""Parses addresses of /metrics as people write them: with or without scheme, port and path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from rl_exporter.server.listen import DEFAULT_PORT

EXAMPLE = f"trainer:{DEFAULT_PORT} or http://trainer:{DEFAULT_PORT}/metrics"

_LOOPBACK = "127.0.0.1"

DEFAULT_ADDRESS = f"{_LOOPBACK}:{DEFAULT_PORT}"
"""Where a run on this machine listens by default."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a run serves /metrics; the address holds no credentials."""

    url: str
    scope: tuple[str, str] = ("", "")
    """Cluster and namespace, within which one run at a time has a run_id. Empty where nothing says them."""


def parse_target(text: str) -> Target:
    """Parse an address of /metrics. Raises ValueError, with the remedy, when ``text`` is none.

    The scheme defaults to HTTP and the path to /metrics. An address without a scheme also defaults to the
    exporter's port; with one it gets the port of its scheme, as in a browser. ``:PORT`` means this machine.
    Credentials are refused: everybody on the machine sees those of a command line.
    """
    bare = "://" not in text
    try:
        parts = urlsplit(f"http://{_LOOPBACK if text.startswith(':') else ''}{text}" if bare else text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_address(text, str(error)) from error
    if parts.scheme not in {"http", "https"}:
        raise _no_address(text, f"scheme {parts.scheme!r} is neither http nor https")
    if parts.username is not None:
        # Without the address, whose password would stand in logs.
        raise ValueError(
            f"the address of {host!r} holds credentials, which everybody on this machine sees; "
            "give them as basic_auth in a file: --http.config.file"
        )
    if not host or any(char.isspace() or not char.isprintable() for char in text):
        raise _no_address(text, "it names no host" if not host else "it holds blanks or control characters")
    if port is None and bare:
        port = DEFAULT_PORT
    return Target(_url(parts, host, port))


def _url(parts: SplitResult, host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    location = bracketed if port is None else f"{bracketed}:{port}"
    path = parts.path if parts.path not in {"", "/"} else "/metrics"
    # Without fragment, which no server ever gets.
    return parts._replace(netloc=location, path=path, fragment="").geturl()


def _no_address(text: str, reason: str) -> ValueError:
    # Without what stands before an @: a password must not get into logs.
    shown = re.sub(r"[^/]*@", "", text)
    return ValueError(f"{shown!r} is no address of a run: {reason}; write {EXAMPLE}")
