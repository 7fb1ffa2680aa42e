"""The recent past of a run as a watcher saw it: effective ratios and gradient norms."""

from __future__ import annotations

from collections import deque

from rl_exporter.snapshot import SanctumSnapshot

MAX_UPDATES = 240
TREND_UPDATES = 5
"""The trend compares a gradient norm with the mean of this many before it."""

TREND_SHARE = 0.1
"""Smaller relative changes are noise, shown as no trend."""


class History:
    """Up to ``MAX_UPDATES`` observed updates of one run. A restart of the run clears it."""

    def __init__(self) -> None:
        self._run: object = None
        self._update = 0
        self._ratios: dict[str, deque[float | None]] = {}
        self._norms: dict[str, deque[float]] = {}

    def add(self, snapshot: SanctumSnapshot) -> None:
        """Add the last update of ``snapshot``, unless it was added before: polls may be faster than updates."""
        tamiyo = snapshot.tamiyo
        # A restart may reuse the run_id, and one from a checkpoint may have fewer updates than were seen.
        run = (snapshot.run.run_id, snapshot.start_timestamp, tamiyo.heads)
        if run != self._run or tamiyo.updates < self._update:
            self._run, self._update = run, 0
            self._ratios = {name: deque(maxlen=MAX_UPDATES) for name in tamiyo.heads.names}
            self._norms = {name: deque(maxlen=TREND_UPDATES + 1) for name in tamiyo.heads.names}
        if tamiyo.updates == self._update:
            return
        self._update = tamiyo.updates
        for name, reading in tamiyo.readings.items():
            self._ratios[name].append(reading.effective)
            if reading.gradient_norm is not None:
                self._norms[name].append(reading.gradient_norm)

    def ratios(self, name: str) -> tuple[float | None, ...]:
        """Effective ratios of a head, oldest first. None for an update without one."""
        return tuple(self._ratios.get(name, ()))

    def trend(self, name: str) -> str:
        """An arrow for the last gradient norm against the mean of those before. Empty before the second."""
        norms = list(self._norms.get(name, ()))
        if len(norms) < 2:
            return ""
        *before, last = norms
        change = last - sum(before) / len(before)
        if abs(change) <= TREND_SHARE * abs(last - change):
            return "→"
        return "↗" if change > 0 else "↘"
