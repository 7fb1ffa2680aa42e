"""The address under which others reach a run, which is not always the one that it listens on."""

from __future__ import annotations

import re
import socket

from rl_exporter.listen import ListenAddress

_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - to recognize, not to bind
_ADVERTISED = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?")


def parse_advertised(text: str) -> tuple[str, int | None]:
    """Host and, if given, port of HOST, HOST:PORT, [IPV6] or [IPV6]:PORT; ValueError with the remedy."""
    found = _ADVERTISED.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or port == 0 or (port or 1) > 65535:
        raise ValueError(f"advertised address {text!r} is not possible; give HOST, HOST:PORT or [IPV6]:PORT")
    return found["v6"] or found["host"], port


def advertised(listening: ListenAddress, given: str | None = None) -> str:
    """HOST:PORT for others: what is ``given``, else where it listens, or this machine's name for everywhere."""
    if given is not None:
        host, port = parse_advertised(given)
        return str(ListenAddress(host, port or listening.port))
    host = socket.gethostname() if listening.host in _EVERYWHERE else listening.host
    return str(ListenAddress(host, listening.port))
