"""What one client, and all of them together, may take from the process that serves them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server. Sizes in bytes, times in seconds."""

    connections: int = 64
    """Open at once, those in a TLS handshake included. One more takes the place of an idle one."""

    header_bytes: int = 16 * 2**10
    """Request line and headers together; a longer head is answered with 431."""

    headers: int = 64
    body_bytes: int = 0
    """A longer body is answered with 413 before it is read."""

    request_seconds: float = 10.0
    """From the first byte of a request, or the start of a connection, to the last byte of the answer."""

    idle_seconds: float = 330.0
    """Between two requests. Longer than the 300 s after which Prometheus closes its side, so that a connection
    stays open for as long as its scraper is there, and tells it from another one."""

    share: float = 0.25
    """Of a core that answers may take while more is asked for; they then wait for their turn."""

    burst_seconds: float = 0.25
    """CPU that answers may take at once before that: some hundred scrapes."""

    stop_seconds: float = 1.0
    """For answers that are being sent when the server stops."""
