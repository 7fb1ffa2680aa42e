"""The verdict on a run: one status, and findings that explain it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from rl_exporter.health import HeadState, Level, level
from rl_exporter.snapshot import HeadReading, SanctumSnapshot
from rl_exporter.view.cells import Tone, number, printable, share


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
_TONES = {Status.WARNING: Tone.WARNING, Status.CRITICAL: Tone.CRITICAL}


def rank(status: Status) -> int:
    """Position in the order from worst to best, for sorting."""
    return _RANK.index(status)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of ``statuses``, or no data if there are none."""
    return min(statuses, key=rank, default=Status.NO_DATA)


def head_status(reading: HeadReading) -> Status | None:
    """Status from the level of the effective ratio. Exploding gradients are critical, as in the alert rules."""
    if reading.state is HeadState.EXPLODING:
        return Status.CRITICAL
    verdict = reading.level
    return _STATUS_OF_LEVEL[verdict] if verdict else None


def run_status(snapshot: SanctumSnapshot | None) -> Status:
    """Status of the worst head, or no data before an update has measured one."""
    if snapshot is None:
        return Status.NO_DATA
    statuses = map(head_status, snapshot.tamiyo.readings.values())
    return worst(status for status in statuses if status is not None)


def weakest(snapshot: SanctumSnapshot) -> tuple[str, float] | None:
    """Name and effective ratio of the weakest head, or None if no head has a ratio."""
    ratios = {name: reading.effective for name, reading in snapshot.tamiyo.readings.items()}
    known = {name: r for name, r in ratios.items() if r is not None and not math.isnan(r)}
    return min(known.items(), key=lambda item: item[1], default=None)


class Finding(NamedTuple):
    """One fact to know about a run: a word, the head it concerns (empty: the run), and the numbers."""

    word: str
    tone: Tone
    head: str
    text: str


def findings(snapshot: SanctumSnapshot) -> tuple[Finding, ...]:
    """List what stands out, worst first. Names the low heads, and those that look collapsed but are not."""
    found = [
        Finding(word, tone, printable(name), text)
        for name, reading in snapshot.tamiyo.readings.items()
        for word, tone, text in _head_findings(reading)
    ]
    if snapshot.record_errors:
        text = f"telemetry failed {_times(snapshot.record_errors)}: values may be missing or old"
        found.append(Finding("errors", Tone.WARNING, "", text))
    if found:
        return tuple(sorted(found, key=lambda finding: _WORDS.index(finding.word)))
    low = weakest(snapshot)
    if low is None:
        return ()
    text = f"every head; the weakest is {printable(low[0])}, {number(low[1])}"
    return (Finding("healthy", Tone.HEALTHY, "", text),)


_WORDS = ("exploding", "critical", "errors", "warning", "starved", "diluted")
"""Worst first."""


def _head_findings(reading: HeadReading) -> Iterator[tuple[str, Tone, str]]:
    if reading.state is HeadState.EXPLODING:
        text = f"gradient norm {number(reading.gradient_norm)} {_updates(reading.state_streak)}"
        yield "exploding", Tone.CRITICAL, text
    verdict = reading.level
    if verdict in {Level.CRITICAL, Level.WARNING}:
        status = _STATUS_OF_LEVEL[verdict]
        streak = reading.critical_streak if verdict is Level.CRITICAL else reading.warning_streak
        what = "normalized entropy" if reading.choice_entropy is None else "choice entropy"
        text = f"{what} {number(reading.effective)} {_updates(streak)}".rstrip()
        yield verdict.value, _TONES[status], text
    if reading.open_share and reading.choice_share == 0:
        text = f"open at {share(reading.open_share)} of the steps, consulted at none"
        yield "starved", Tone.WARNING, text
    if reading.choice_entropy is not None and _diluted(reading):
        text = f"{number(reading.normalized)} over all steps, {number(reading.choice_entropy)} where it decides"
        yield "diluted", Tone.PLAIN, text


def _diluted(reading: HeadReading) -> bool:
    return level(reading.normalized) is Level.CRITICAL and reading.level in {Level.HEALTHY, Level.WARNING}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _updates(count: int | None) -> str:
    return f"for {count} update{'' if count == 1 else 's'}" if count else ""
