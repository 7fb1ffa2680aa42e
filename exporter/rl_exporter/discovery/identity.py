"""Registering a run in a discovery directory, and the address under which others reach it there."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rl_exporter.discovery.labels import check_labels
from rl_exporter.discovery.registration import Registration, claim
from rl_exporter.identity import run_id_candidates
from rl_exporter.server.listen import ListenAddress

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


@dataclass(frozen=True, slots=True)
class Discovery:
    """Register a run in ``directory``, where Prometheus finds it (file_sd_config).

    ``labels`` go onto the target, such as ``{"cluster": "lab"}``, never run_id. ``advertise`` is HOST or
    HOST:PORT under which Prometheus reaches this run, by default the address that it listens on, with this
    machine's name where that is every address. ``unique`` appends -2, -3, … to a run_id that a live run has.

    Raises ValueError for what Prometheus would reject.
    """

    directory: Path | str
    labels: Mapping[str, str] = field(default_factory=dict)
    advertise: str | None = None
    unique: bool = False

    def __post_init__(self) -> None:
        check_labels(self.labels)
        if self.advertise is not None:
            parse_advertised(self.advertise)

    def register(self, run_id: str | None) -> RegisteredRun:
        """Write an entry under ``run_id``, or a generated name. Raises RegistrationError and ValueError."""
        candidates = run_id_candidates(run_id, unique=self.unique)
        claimed = claim(Path(self.directory).absolute(), candidates, self.labels)
        return RegisteredRun(claimed, self.advertise)


@dataclass(frozen=True, slots=True)
class RegisteredRun:
    """A run with an entry in a discovery directory."""

    registration: Registration
    advertise: str | None
    listed = True

    @property
    def run_id(self) -> str:
        """The name that it got."""
        return self.registration.run_id

    def listening(self, address: ListenAddress) -> str:
        """Publish where the run listens; returns the address under which others reach it."""
        reachable = advertised(address, self.advertise)
        self.registration.publish(reachable)
        return reachable

    def close(self) -> None:
        """Remove the entry."""
        self.registration.close()
