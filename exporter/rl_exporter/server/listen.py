"""Listen addresses: HOST:PORT as people write them."""

from __future__ import annotations

from typing import NamedTuple

DEFAULT_PORT = 28008
"""Free in the Prometheus port allocation list, and below the ephemeral ports."""


class ListenAddress(NamedTuple):
    """Where to listen. Port 0 lets the system choose a free one."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


PAGES_ADDRESS = ListenAddress(port=28009)
"""Where Alertmanager's configuration, as it is shipped, delivers pages."""


def parse_listen_address(text: str) -> ListenAddress:
    """Parse ``HOST:PORT``, ``:PORT`` (every interface) or ``[IPV6]:PORT``; ValueError with the remedy."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"listen address {text!r} is not HOST:PORT; write 127.0.0.1:{DEFAULT_PORT} or [::1]:0")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"listen address {text!r} has port {port!r}; give a number from 0 to 65535")
    return ListenAddress(host[1:-1] if bracketed else host or "0.0.0.0", int(port))  # noqa: S104
