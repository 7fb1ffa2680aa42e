"""Listen addresses: HOST:PORT as people write them, and what to do where nobody can listen."""

from __future__ import annotations

from typing import Any, NamedTuple

DEFAULT_PORT = 28008
"""Unassigned in Prometheus' list of exporter ports, and below the ephemeral ports, which any client may get."""

PAGES_PORT = 28009
"""Where the shipped Alertmanager configuration delivers pages."""

AUTO = -1
"""The port of a run that takes the next free one, from DEFAULT_PORT on."""

AUTO_PORTS = range(DEFAULT_PORT, DEFAULT_PORT + 100)


class ListenAddress(NamedTuple):
    """Where to listen. With port 0 the system chooses a free one. Loopback unless the user asks for more."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        port = "auto" if self.port == AUTO else self.port
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @property
    def floats(self) -> bool:
        """Whether the port is known only once somebody listens: 0 or AUTO."""
        return self.port in {0, AUTO}

    def candidates(self) -> tuple[ListenAddress, ...]:
        """The addresses to try in order: this one, or for AUTO each whose port a run may take."""
        if self.port != AUTO:
            return (self,)
        return tuple(ListenAddress(self.host, port) for port in AUTO_PORTS if port != PAGES_PORT)


PAGES_ADDRESS = ListenAddress(port=PAGES_PORT)


def parse_listen_address(text: str, *, auto: bool = False) -> ListenAddress:
    """Parse ``HOST:PORT``, ``:PORT`` (all interfaces) or ``[IPV6]:PORT``. Raises ValueError with the remedy.

    With ``auto`` also ``auto`` and ``HOST:auto``: the next free port from DEFAULT_PORT on.
    """
    if auto and text == "auto":
        return ListenAddress(port=AUTO)
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed):
        raise ValueError(f"listen address {text!r} is not HOST:PORT; write 127.0.0.1:{DEFAULT_PORT} or [::1]:0")
    if auto and port == "auto":
        number = AUTO
    elif port.isascii() and port.isdigit() and int(port) <= 65535:
        number = int(port)
    else:
        raise ValueError(f"listen address {text!r} has port {port!r}; give a number from 0 to 65535")
    return ListenAddress(host[1:-1] if bracketed else host or "0.0.0.0", number)  # noqa: S104 - :PORT asks for it


class ListenError(OSError):
    """A server cannot listen: where, why, and the remedy in words of Python. A command line rewords it."""

    def __init__(self, address: ListenAddress, reason: str, *, in_use: bool = False) -> None:
        self.address, self.reason, self.in_use = address, reason, in_use
        super().__init__(self.worded('listen="{}"'))

    def worded(self, option: str, *, auto: bool = True) -> str:
        """The message with the remedy for users of ``option``, such as ``--listen {}``; {} is an address.

        ``auto``: whether the option takes that word.
        """
        remedy = f"give another address with {option.format('HOST:PORT')} (port 0 takes a free one)"
        if auto and self.in_use and self.address.port != AUTO:
            word = "auto" if self.address.host == ListenAddress().host else self.address._replace(port=AUTO)
            remedy += f", or take the next free port with {option.format(word)}"
        return f"cannot listen on {self.address}: {self.reason}; {remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _listen_error, (self.address, self.reason, self.in_use)


def _listen_error(address: ListenAddress, reason: str, in_use: bool) -> ListenError:
    return ListenError(address, reason, in_use=in_use)
