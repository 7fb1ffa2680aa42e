"""The name of a run, and where it is registered under that name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from rl_exporter.server.listen import ListenAddress

_ADJECTIVES = (
    "amber",
    "brisk",
    "calm",
    "dapper",
    "eager",
    "fond",
    "gentle",
    "keen",
    "lucid",
    "mellow",
    "quiet",
)
_ANIMALS = ("badger", "crane", "finch", "heron", "ibex", "lynx", "marten", "otter", "raven", "stoat", "tern")


def generated_run_id() -> str:
    """A name such as ``keen-otter-0417``, not dependent on any seed."""
    chance = random.SystemRandom()
    return f"{chance.choice(_ADJECTIVES)}-{chance.choice(_ANIMALS)}-{chance.randrange(10_000):04d}"


def run_id_candidates(run_id: str | None = None, *, unique: bool = False) -> Iterator[str]:
    """Names for a run, to be tried in order until one is free.

    ``run_id``, and if ``unique`` ``run_id``-2, ``run_id``-3, … Without a ``run_id`` they are generated.
    """
    while run_id is None:
        yield generated_run_id()
    yield run_id
    if unique:
        yield from (f"{run_id}-{number}" for number in count(2))


class Identity(Protocol):
    """The name that a run has until ``close``."""

    @property
    def run_id(self) -> str:
        """The name that people read."""

    @property
    def listed(self) -> bool:
        """Whether Prometheus discovers the run, so that some server will scrape it."""

    def listening(self, address: ListenAddress) -> str:
        """Publish that the run listens at ``address``; returns the address under which others reach it."""

    def close(self) -> None:
        """Give the name back. May be called again."""


class Registrar(Protocol):
    """Hands out names of runs: a discovery directory, for example."""

    def register(self, run_id: str | None) -> Identity:
        """Take ``run_id``, or a generated name. Raises ValueError when it is taken or cannot be registered."""


def identify(run_id: str | None, registrar: Registrar | None = None) -> Identity:
    """The name of a run: ``run_id``, or a generated one. Without a registrar nobody else hears of it."""
    if registrar is None:
        return UnregisteredRun(next(run_id_candidates(run_id)))
    return registrar.register(run_id)


@dataclass(frozen=True, slots=True)
class UnregisteredRun:
    """A run that only those find who know its address."""

    run_id: str
    listed = False

    def listening(self, address: ListenAddress) -> str:
        """The address itself."""
        return str(address)

    def close(self) -> None:
        """Nothing to give back."""
