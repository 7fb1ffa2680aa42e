"""Whether the run of an entry is alive: what answers at its address, and when its last heartbeat was."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from enum import StrEnum

from rl_exporter.panel.addresses import parse_target
from rl_exporter.targets.entry import STALE_SECONDS, Entry

LOOK_SECONDS = 5.0
"""How long an answer is waited for."""


class Condition(StrEnum):
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


Look = Callable[[Entry], Condition]


def looker(timeout: float = LOOK_SECONDS) -> Look:
    """A function that finds out the condition of an entry; may be called by many threads."""
    from rl_exporter.panel.fetch import Fetcher, RefusedError, UnreachableError  # noqa: PLC0415 - only where asked

    fetcher = Fetcher(timeout=timeout)

    def look(entry: Entry) -> Condition:
        if entry.problem:
            return Condition.BROKEN
        if entry.address is None:
            return Condition.STARTING
        try:
            found = fetcher.fetch(parse_target(f"http://{entry.address}/metrics")).snapshot.run.run_id
        except RefusedError:
            return Condition.GONE
        except (UnreachableError, ValueError):
            return Condition.SILENT
        return Condition.UP if _same(found, entry.run_id) else Condition.GONE

    return look


def _same(found: str, expected: str) -> bool:
    return found.startswith(expected[:-1]) if expected.endswith("…") else found == expected


def holds_its_name(entry: Entry, condition: Condition) -> bool:
    """Whether the run of ``entry`` is to be taken for alive, so that no other may have its run_id.

    A refused connection ends a name at once: a job that is started again must not wait for its former self.
    """
    if condition in {Condition.UP, Condition.GONE}:
        return condition is Condition.UP
    return entry.age < STALE_SECONDS


def is_dead(entry: Entry, condition: Condition, older_than: float = STALE_SECONDS) -> bool:
    """Whether an entry may be removed: its run does not answer, and its last heartbeat is old enough.

    On this machine a refused connection is enough; from elsewhere it may be a firewall.
    """
    if condition is Condition.UP:
        return False
    return entry.age >= older_than or (condition is Condition.GONE and _is_here(entry))


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
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True
