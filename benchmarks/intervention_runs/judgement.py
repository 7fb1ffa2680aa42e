"""What one run did: its end, how long heads were low and blind, how fast they came back, how steady then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.intervention_runs.kinds import Kind

CRITICAL = 0.25
"""Threshold of every head in these runs."""

_STEADY_UPDATES = 20
"""Updates at the end of a run over which a controlled head has to be steady."""


class Head(NamedTuple):
    """One head after one update; ``added`` is what the update had on top of its coefficient, in nats."""

    ratio: float | None
    blind: bool
    added: float

    @property
    def collapsed(self) -> bool:
        """Whether the head is at or below the critical threshold, and blind."""
        return self.ratio is not None and self.ratio <= CRITICAL and self.blind


@dataclass(frozen=True)
class Result:
    """One run, as its file says."""

    kind: Kind
    seed: int
    returns: tuple[float | None, ...]
    heads: Mapping[str, tuple[Head, ...]]
    cpu_seconds: float

    @property
    def end(self) -> float:
        """Mean return of the last 100 episodes of the run."""
        last = self.returns[-1]
        assert last is not None, "every run ends episodes"
        return last

    @property
    def judged(self) -> Mapping[str, tuple[Head, ...]]:
        """The heads that the kind makes fall; every head where it names none."""
        return {name: self.heads[name] for name in self.kind.heads or self.heads}

    @cached_property
    def collapsed_updates(self) -> int:
        """Updates at which a judged head was collapsed, summed over the heads."""
        return sum(head.collapsed for updates in self.judged.values() for head in updates)

    @cached_property
    def recoveries(self) -> tuple[int | None, ...]:
        """For each judged head that collapsed: updates until it was back above the threshold; None if never."""
        found = (recovery(updates) for updates in self.judged.values())
        return tuple(updates for collapsed, updates in found if collapsed)

    @cached_property
    def swing(self) -> float | None:
        """Half the distance between highest and lowest ratio of the last 20 updates, in the worst judged head.

        Only heads count to which something was added; None where nothing was.
        """
        swings = [
            (max(ratios) - min(ratios)) / 2
            for updates in self.judged.values()
            if any(head.added for head in updates)
            and (ratios := [h.ratio for h in updates[-_STEADY_UPDATES:] if h.ratio is not None])
        ]
        return max(swings, default=None)

    @cached_property
    def interventions(self) -> int:
        """Updates whose coefficient differed from that of the update before, summed over all heads."""
        return sum(
            one.added != other.added for updates in self.heads.values() for one, other in pairwise(updates)
        )


def recovery(updates: Sequence[Head]) -> tuple[bool, int | None]:
    """Whether a head collapsed, and how many updates later it was above the threshold for three updates."""
    first = next((n for n, head in enumerate(updates) if head.collapsed), None)
    if first is None:
        return False, None
    return True, next((n - first for n in range(first + 1, len(updates)) if _stays(updates[n:])), None)


def _stays(updates: Sequence[Head]) -> bool:
    """Whether a head is above the threshold, and does not collapse in the two updates after that."""
    above = updates[0].ratio is not None and updates[0].ratio > CRITICAL
    return above and not any(head.collapsed for head in updates[1:3])


def read_result(kind: Kind, seed: int, path: Path) -> Result:
    """The run that ``path`` holds."""
    document = json.loads(path.read_text())
    updates: list[dict[str, Any]] = document["updates"]
    heads = {name: tuple(Head(*update["heads"][name]) for update in updates) for name in updates[0]["heads"]}
    return Result(kind, seed, tuple(update["return"] for update in updates), heads, document["cpu_seconds"])
