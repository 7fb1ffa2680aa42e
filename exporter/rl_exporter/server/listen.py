"""Parses listen addresses, HOST:PORT as people write them."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_PORT = 28008
"""Unassigned in Prometheus' list of exporter ports, and below the ephemeral ports, which any client may get."""


class ListenAddress(NamedTuple):
    """Where to listen. With port 0 the system chooses a free one. Loopback unless the user asks for more."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


PAGES_ADDRESS = ListenAddress(port=28009)
"""Where the shipped Alertmanager configuration delivers pages."""


def parse_listen_address(text: str) -> ListenAddress:
    """Parse ``HOST:PORT``, ``:PORT`` (all interfaces) or ``[IPV6]:PORT``. Raises ValueError with the remedy."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"listen address {text!r} is not HOST:PORT; write 127.0.0.1:{DEFAULT_PORT} or [::1]:0")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"listen address {text!r} has port {port!r}; give a number from 0 to 65535")
    return ListenAddress(host[1:-1] if bracketed else host or "0.0.0.0", int(port))  # noqa: S104 - :PORT asks for it
