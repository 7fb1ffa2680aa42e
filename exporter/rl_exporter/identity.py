"""The identity of a run: its run_id, and the protocol of whoever registers it.

Only protocols and generated names, so that the recorder needs no discovery directory.
"""

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
    """A name such as ``keen-otter-0417``. Not from a seed: two runs with the same one need different names."""
    rng = random.SystemRandom()
    return f"{rng.choice(_ADJECTIVES)}-{rng.choice(_ANIMALS)}-{rng.randrange(10_000):04d}"


def run_id_candidates(run_id: str | None = None, *, unique: bool = False) -> Iterator[str]:
    """Names to try in order until one is free.

    Without a ``run_id``, generated names without end. Else ``run_id``, and with ``unique`` also ``run_id``-2,
    -3, …
    """
    while run_id is None:
        yield generated_run_id()
    yield run_id
    if unique:
        yield from (f"{run_id}-{number}" for number in count(2))


class Identity(Protocol):
    """A run's hold on its run_id, until ``close``."""

    @property
    def run_id(self) -> str:
        """The run_id, which people read."""

    @property
    def listed(self) -> bool:
        """Whether Prometheus discovers the run, so that a server will scrape it."""

    def listening(self, address: ListenAddress, scheme: str = "http") -> str:
        """Publish the listen address and http or https. Returns the address that others connect to."""

    def close(self) -> None:
        """Release the run_id. May be called again."""


class Registrar(Protocol):
    """Assigns run_ids, as a discovery directory does."""

    def register(self, run_id: str | None) -> Identity:
        """Take ``run_id``, or a generated one. Raises ValueError if it is taken or cannot be registered."""


def identify(run_id: str | None, registrar: Registrar | None = None) -> Identity:
    """Take ``run_id``, or a generated one. Without a registrar nothing checks that it is unique."""
    if registrar is None:
        return UnregisteredRun(next(run_id_candidates(run_id)))
    return registrar.register(run_id)


@dataclass(frozen=True, slots=True)
class UnregisteredRun:
    """A run that no discovery lists: a scraper must know its address."""

    run_id: str
    listed = False

    def listening(self, address: ListenAddress, scheme: str = "http") -> str:
        """Return the address itself."""
        del scheme
        return str(address)

    def close(self) -> None:
        """Do nothing: nobody else knows the run_id."""
