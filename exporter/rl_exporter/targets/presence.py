"""What a run asks of discovery, and the name that it gets: with an entry in a directory, or without any."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rl_exporter.listen import ListenAddress
from rl_exporter.names import run_id_candidates
from rl_exporter.targets.address import advertised, parse_advertised
from rl_exporter.targets.closing import Closing
from rl_exporter.targets.labels import check_labels
from rl_exporter.targets.registration import Registration, claim


@dataclass(frozen=True, slots=True)
class Discovery:
    """Register a run in ``directory``, where Prometheus finds it (file_sd_config).

    ``labels`` go onto the target, such as ``{"cluster": "lab"}``, never run_id. ``advertise`` is HOST or
    HOST:PORT under which Prometheus reaches this run, by default the address that it listens on, with this
    machine's name where that is every address. ``unique`` appends -2, -3, … to a run_id that a run alive has.

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


class Presence(AbstractContextManager["Presence"], Protocol):
    """A run under its name, until ``close``."""

    @property
    def run_id(self) -> str:
        """The name that it got."""

    @property
    def listed(self) -> bool:
        """Whether discovery knows it, so that somebody will scrape it."""

    def listening(self, address: ListenAddress) -> str:
        """The run listens at ``address``; returns where others find it."""

    def close(self) -> None:
        """The run has ended."""


def appear(run_id: str | None, discovery: Discovery | None) -> Presence:
    """Take a name for a run: ``run_id``, or a generated one. Raises RegistrationError and ValueError."""
    candidates = run_id_candidates(run_id, unique=discovery is not None and discovery.unique)
    if discovery is None:
        return _Unlisted(next(candidates))
    return _Listed(
        claim(Path(discovery.directory).absolute(), candidates, discovery.labels), discovery.advertise
    )


@dataclass(frozen=True, slots=True)
class _Unlisted(Closing):
    run_id: str
    listed = False

    def listening(self, address: ListenAddress) -> str:
        return str(address)


@dataclass(frozen=True, slots=True)
class _Listed(Closing):
    registration: Registration
    advertise: str | None
    listed = True

    @property
    def run_id(self) -> str:
        return self.registration.run_id

    def listening(self, address: ListenAddress) -> str:
        found_at = advertised(address, self.advertise)
        self.registration.publish(found_at)
        return found_at

    def close(self) -> None:
        self.registration.close()
