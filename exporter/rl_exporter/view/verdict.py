"""The verdict on a run: one status, and what it follows from.

Low entropy alone is no failure: a head that has learned its task has it, too. Only a head that is low and blind
to the state fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import IntEnum

from rl_exporter.health import HeadState, Level
from rl_exporter.snapshot import HeadReading, SanctumSnapshot


class Status(IntEnum):
    """The verdict on a run or a head. The value is the exit status of ``rl-exporter watch --once``."""

    HEALTHY = 0
    WARNING = 1
    CRITICAL = 2
    NO_DATA = 3


_RANK = (Status.CRITICAL, Status.NO_DATA, Status.WARNING, Status.HEALTHY)
"""Worst first. No data ranks above a warning, which it may hide, and below a known critical head."""

_STATUS_OF_LEVEL = {
    Level.HEALTHY: Status.HEALTHY,
    Level.WARNING: Status.WARNING,
    Level.CRITICAL: Status.CRITICAL,
}
_ALARMING = {HeadState.EXPLODING, HeadState.DEAD}


def rank(status: Status) -> int:
    """Position in the order from worst to best, for sorting."""
    return _RANK.index(status)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of ``statuses``, or no data if there are none."""
    return min(statuses, key=rank, default=Status.NO_DATA)


def entropy_status(reading: HeadReading) -> Status | None:
    """Status from the entropy: low is a failure only of a head that is blind. None without a level."""
    verdict = reading.level
    if verdict is None:
        return None
    return _STATUS_OF_LEVEL[verdict] if reading.blind else Status.HEALTHY


def head_status(reading: HeadReading) -> Status | None:
    """Status from the entropy. Exploding gradients and dead heads are critical, as in the alert rules."""
    return Status.CRITICAL if reading.state in _ALARMING else entropy_status(reading)


def decided(reading: HeadReading) -> bool:
    """Whether the head is low, but decides by the state: settled, or about to be."""
    return reading.level in {Level.WARNING, Level.CRITICAL} and not reading.blind


def verdict_level(reading: HeadReading) -> Level | None:
    """The level whose colour the verdict has. None without a verdict, and for a low head that is not blind."""
    status = head_status(reading)
    if status is None or (status is Status.HEALTHY and decided(reading)):
        return None
    return next(level for level, same in _STATUS_OF_LEVEL.items() if same is status)


def run_status(snapshot: SanctumSnapshot | None) -> Status:
    """Status of the worst head, or no data before an update has measured one."""
    if snapshot is None:
        return Status.NO_DATA
    statuses = map(head_status, snapshot.tamiyo.readings.values())
    return worst(status for status in statuses if status is not None)


def weakest(snapshot: SanctumSnapshot) -> tuple[str, float] | None:
    """Name and effective ratio of the weakest head by the verdict, or None if no head has a ratio.

    A head that decides by the state comes last however low its ratio is.
    """
    known = {
        name: reading
        for name, reading in snapshot.tamiyo.readings.items()
        if reading.effective is not None and not math.isnan(reading.effective)
    }
    name = min(known, key=lambda name: _weakness(known[name]), default=None)
    return None if name is None else (name, known[name].effective or 0.0)


def _weakness(reading: HeadReading) -> tuple[int, bool, float]:
    return rank(entropy_status(reading) or Status.HEALTHY), decided(reading), reading.effective or 0.0


def severity(snapshot: SanctumSnapshot | None) -> tuple[int, float]:
    """Sorts runs worst first, and runs of one status by their weakest head."""
    low = weakest(snapshot) if snapshot else None
    if snapshot is None or low is None:
        return rank(run_status(snapshot)), math.inf
    return rank(run_status(snapshot)), math.inf if decided(snapshot.tamiyo.readings[low[0]]) else low[1]
