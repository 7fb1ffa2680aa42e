"""Whether the run of an entry is alive: what answers at its address, and when its last heartbeat was."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from enum import StrEnum

from rl_exporter.client.addresses import parse_target
from rl_exporter.discovery.entry import STALE_SECONDS, Entry

PROBE_SECONDS = 5.0
"""How long an answer is waited for."""


class Liveness(StrEnum):
    """What was found at the address of an entry."""

    UP = "up"
    """The run answers."""
    STARTING = "starting"
    """It has not said where it listens."""
    SILENT = "silent"
    """No answer that tells: the machine or the network may be down."""
    GONE = "gone"
    """Nobody listens there, or another run does."""
    BROKEN = "broken"
    """The file is no entry."""


Probe = Callable[[Entry], Liveness]


def liveness_probe(timeout: float = PROBE_SECONDS) -> Probe:
    """A function that asks the address of an entry who answers there; thread-safe."""
    from rl_exporter.client.fetch import Fetcher, RefusedError, UnreachableError  # noqa: PLC0415 - only where asked

    fetcher = Fetcher(timeout=timeout)

    def probe(entry: Entry) -> Liveness:
        if entry.problem:
            return Liveness.BROKEN
        if entry.address is None:
            return Liveness.STARTING
        try:
            found = fetcher.fetch(parse_target(f"http://{entry.address}/metrics")).snapshot.run.run_id
        except RefusedError:
            return Liveness.GONE
        except (UnreachableError, ValueError):
            return Liveness.SILENT
        return Liveness.UP if _same(found, entry.run_id) else Liveness.GONE

    return probe


def _same(found: str, expected: str) -> bool:
    return found.startswith(expected[:-1]) if expected.endswith("…") else found == expected


def keeps_its_name(entry: Entry, liveness: Liveness) -> bool:
    """Whether the run of ``entry`` is to be taken for alive, so that no other may have its run_id.

    A refused connection ends a name at once: a job that is started again must not wait for its former self.
    """
    if liveness in {Liveness.UP, Liveness.GONE}:
        return liveness is Liveness.UP
    return entry.age < STALE_SECONDS


def is_dead(entry: Entry, liveness: Liveness, older_than: float = STALE_SECONDS) -> bool:
    """Whether an entry may be removed: its run does not answer, and its last heartbeat is old enough.

    On this machine a refused connection is enough; from elsewhere it may be a firewall.
    """
    if liveness is Liveness.UP:
        return False
    return entry.age >= older_than or (liveness is Liveness.GONE and _is_here(entry))


def _is_here(entry: Entry) -> bool:
    host = (entry.address or "").rpartition(":")[0].strip("[]")
    if host in {socket.gethostname(), socket.getfqdn()}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not address.is_loopback and _is_own(host, address.version)


def _is_own(host: str, version: int) -> bool:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True
