"""What a run remembers of a head beyond its last update and does not export: a resumed run judges by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

START_UPDATES = 10
"""Measured updates whose median is the start of a head."""

SLOPE_UPDATES = 10
"""Effective ratios that the slope looks back over."""

INFORMATION_UPDATES = 10
"""Updates with state information over which one odd decision is an exception."""


class Streaks(NamedTuple):
    """Updates in a row, up to the last, at which a condition of the same name held: also less than three."""

    low: int = 0
    collapsed: int = 0
    settled: int = 0
    starved: int = 0
    idle: int = 0


_NO_STREAKS = Streaks()


@dataclass(frozen=True, slots=True)
class HeadMemory:
    """Streaks and windows of one head after an update, the windows from the oldest to the newest.

    ``first``: entropies, in nats, of the first measured updates of the run. ``updates`` and ``ratios``: the
    last effective ratios, each with the number of its update. ``nats`` and ``uncertain``: state information of
    the last updates that knew it, and all that was uncertain about the action.
    """

    streaks: Streaks = _NO_STREAKS
    first: tuple[float, ...] = ()
    updates: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()
    nats: tuple[float, ...] = ()
    uncertain: tuple[float, ...] = ()


Memories = tuple[tuple[str, HeadMemory], ...]
"""By name of the head."""

_MOST = {
    "streaks": len(Streaks._fields),
    "first": START_UPDATES,
    "updates": SLOPE_UPDATES,
    "ratios": SLOPE_UPDATES,
    "nats": INFORMATION_UPDATES,
    "uncertain": INFORMATION_UPDATES,
}


_WHOLE = {"streaks", "updates"}
"""Windows of whole numbers."""


def memory_states(memories: Memories) -> dict[str, dict[str, list[float]]]:
    """What a checkpoint keeps, as lists of numbers by head."""
    return {
        name: {key: list(map(int if key in _WHOLE else float, getattr(memory, key))) for key in _MOST}
        for name, memory in memories
    }


def memories_of(states: Mapping[str, Mapping[str, Any]]) -> Memories:
    """The memories that ``memory_states`` returned. Raises an error of any kind for what it did not."""
    return tuple((name, _memory(name, state)) for name, state in states.items())


def _memory(name: str, state: Mapping[str, Any]) -> HeadMemory:
    found = {key: tuple(state[key]) for key in _MOST}
    for key, values in found.items():
        kind = int if key in _WHOLE else float
        if len(values) > _MOST[key] or not all(type(v) is kind and 0 <= v < math.inf for v in values):
            raise ValueError(f"no memory of head {name!r}: {key}")
    streaks, updates = Streaks(*found.pop("streaks")), found["updates"]
    if sorted({*updates}) != list(updates):
        raise ValueError(f"no memory of head {name!r}: updates without order")
    if len(updates) != len(found["ratios"]) or len(found["nats"]) != len(found["uncertain"]):
        raise ValueError(f"no memory of head {name!r}: windows that do not fit")
    return HeadMemory(streaks, **found)
