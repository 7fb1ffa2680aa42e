"""Addresses of /metrics as people write them: with or without scheme, port and path."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from rl_exporter.server.listen import DEFAULT_PORT

EXAMPLE = f"trainer:{DEFAULT_PORT} or http://trainer:{DEFAULT_PORT}/metrics"

_THIS_MACHINE = "127.0.0.1"

DEFAULT_ADDRESS = f"{_THIS_MACHINE}:{DEFAULT_PORT}"
"""Where a run of this machine listens unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a run's /metrics is. ``url`` holds no credentials; they never show."""

    url: str
    credentials: str | None = field(default=None, repr=False)


def parse_target(text: str) -> Target:
    """The target that ``text`` means. ValueError with the remedy when it means none.

    Without a scheme it is HTTP, on the exporter's default port unless it names one; without a path, /metrics;
    ``:PORT`` is this machine.
    """
    bare = "://" not in text
    try:
        parts = urlsplit(f"http://{_THIS_MACHINE if text.startswith(':') else ''}{text}" if bare else text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_address(text, str(error)) from error
    if parts.scheme not in {"http", "https"}:
        raise _no_address(text, f"scheme {parts.scheme!r} is neither http nor https")
    if not host or any(char.isspace() or not char.isprintable() for char in text):
        raise _no_address(text, "it names no host" if not host else "it holds blanks or control characters")
    if port is None and bare:
        port = DEFAULT_PORT
    return Target(_url(parts, host, port), _credentials(parts))


def _url(parts: SplitResult, host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    location = bracketed if port is None else f"{bracketed}:{port}"
    path = parts.path if parts.path not in {"", "/"} else "/metrics"
    return parts._replace(netloc=location, path=path, fragment="").geturl()


def _credentials(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _no_address(text: str, reason: str) -> ValueError:
    return ValueError(f"{text!r} is no address of a run: {reason}; write {EXAMPLE}")
