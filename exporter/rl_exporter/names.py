"""Readable names for runs that were given none."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

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
