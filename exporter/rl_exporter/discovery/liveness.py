"""Whether the run of an entry is alive, from what answers at its address and from its last heartbeat."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from rl_exporter.client.addresses import parse_target
from rl_exporter.discovery.entry import STALE_SECONDS, Entry

PROBE_SECONDS = 5.0
"""Time limit for an answer."""


class Liveness(StrEnum):
    """Result of a probe of an entry's address."""

    UP = "up"
    """The run answers."""
    STARTING = "starting"
    """The entry has no address yet."""
    SILENT = "silent"
    """No answer, or none that tells which run it is: the machine or the network may be down."""
    GONE = "gone"
    """Nothing listens at the address, or another run does."""
    BROKEN = "broken"
    """The file is no valid entry."""
    UNASKED = "unasked"
    """Its turn did not come: too many others kept the probes busy."""


Probe = Callable[[Entry], Liveness]


def liveness_probe(timeout: float = PROBE_SECONDS, http_config: Path | None = None) -> Probe:
    """Make a thread-safe probe that fetches /metrics from an entry's address and compares the run_id.

    ``http_config`` is a client file for runs behind TLS or a password. Raises ValueError for one that is none.
    """
    from rl_exporter.client.fetch import Fetcher, RefusedError, UnreachableError, read_credentials  # noqa: PLC0415 - a run that registers under a free name needs no HTTP client

    fetcher = Fetcher.showing(read_credentials(http_config), timeout)

    def probe(entry: Entry) -> Liveness:
        if entry.problem:
            return Liveness.BROKEN
        if entry.address is None:
            return Liveness.STARTING
        try:
            found = fetcher.fetch(parse_target(f"{entry.scheme}://{entry.address}/metrics")).snapshot.run.run_id
        except RefusedError:
            return Liveness.GONE
        except (UnreachableError, ValueError):
            return Liveness.SILENT
        return Liveness.UP if _matches(found, entry.run_id) else Liveness.GONE

    return probe


def _matches(found: str, expected: str) -> bool:
    # An entry's file name holds only the beginning of a long run_id.
    return found.startswith(expected[:-1]) if expected.endswith("…") else found == expected


def holds_run_id(entry: Entry, liveness: Liveness) -> bool:
    """Whether the run of ``entry`` counts as alive, so that no other run may take its run_id.

    After a refused connection the run_id is free at once: a job that restarts must not wait for its former
    self.
    """
    if liveness in {Liveness.UP, Liveness.GONE}:
        return liveness is Liveness.UP
    return entry.age < STALE_SECONDS


def is_dead(entry: Entry, liveness: Liveness, older_than: float = STALE_SECONDS) -> bool:
    """Whether an entry may be removed: its run does not answer, and its last heartbeat is old enough.

    On the run's own machine a refused connection is enough; from another one it may come from a firewall.
    """
    if liveness in {Liveness.UP, Liveness.UNASKED}:
        return False
    return entry.age >= older_than or (liveness is Liveness.GONE and _is_on_this_machine(entry))


def _is_on_this_machine(entry: Entry) -> bool:
    host = (entry.address or "").rpartition(":")[0].strip("[]")
    if host in {socket.gethostname(), socket.getfqdn()}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Every machine has the loopback address, so in an entry it does not say which one.
    return not address.is_loopback and _can_bind(host, address.version)


def _can_bind(host: str, version: int) -> bool:
    # The kernel binds only to addresses of this machine; a datagram socket needs no free port and sends
    # nothing.
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError:
        return False
    return True
