"""Registers a run in a discovery directory, under the address that Prometheus reaches it at."""

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

_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - compared with, never bound
_ADVERTISED = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?")


def parse_advertised(text: str) -> tuple[str, int | None]:
    """Parse HOST, HOST:PORT, [IPV6] or [IPV6]:PORT into host and port. Raises ValueError with the remedy."""
    found = _ADVERTISED.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if not found or port == 0 or (port or 1) > 65535:
        raise ValueError(f"advertised address {text!r} is not possible; give HOST, HOST:PORT or [IPV6]:PORT")
    return found["v6"] or found["host"], port


def advertised(listening: ListenAddress, given: str | None = None) -> str:
    """HOST:PORT for Prometheus: ``given``, else the listen address, with this host's name for a wildcard."""
    if given is not None:
        host, port = parse_advertised(given)
        return str(ListenAddress(host, port or listening.port))
    host = socket.gethostname() if listening.host in _WILDCARDS else listening.host
    return str(ListenAddress(host, listening.port))


@dataclass(frozen=True, slots=True)
class Discovery:
    """Registers a run in ``directory``, where Prometheus finds it (file_sd_config).

    ``labels`` are added to the target, such as ``{"cluster": "lab"}``; run_id may not be among them.
    ``advertise`` is the HOST or HOST:PORT that Prometheus connects to. Default: the listen address, with this
    host's name if the run listens on all addresses. ``unique`` appends -2, -3, … to a run_id that a live run
    has.

    Raises ValueError for labels and addresses that Prometheus would reject.
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
        # Absolute, because the run may change its working directory before it removes the entry.
        claimed = claim(Path(self.directory).absolute(), candidates, self.labels)
        return RegisteredRun(claimed, self.advertise)


@dataclass(frozen=True, slots=True)
class RegisteredRun:
    """A run that owns an entry in a discovery directory."""

    registration: Registration
    advertise: str | None
    listed = True

    @property
    def run_id(self) -> str:
        """The run_id that it got, which differs from the requested one with ``unique``."""
        return self.registration.run_id

    def listening(self, address: ListenAddress, scheme: str = "http") -> str:
        """Write address and scheme into the entry. Returns the address that Prometheus connects to."""
        reachable = advertised(address, self.advertise)
        self.registration.publish(reachable, scheme)
        return reachable

    def close(self) -> None:
        """Remove the entry."""
        self.registration.close()
