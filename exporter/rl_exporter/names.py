"""Readable names for runs that were given none."""

from __future__ import annotations

import random

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
