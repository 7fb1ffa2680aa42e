"""What a watcher remembers of a run: effective ratios and gradient norms of the updates that it saw."""

from __future__ import annotations

from collections import deque

from rl_exporter.snapshot import SanctumSnapshot

REMEMBERED = 240
TREND_UPDATES = 5
"""A gradient norm is compared with the mean of as many before it."""

TREND_SHARE = 0.1
"""A change by more than this share is a trend."""


class History:
    """The updates of one run as they were seen, at most ``REMEMBERED``; a run that restarts begins anew."""

    def __init__(self) -> None:
        self._run: object = None
        self._update = 0
        self._ratios: dict[str, deque[float | None]] = {}
        self._norms: dict[str, deque[float]] = {}

    def add(self, snapshot: SanctumSnapshot) -> None:
        """Remember the last update of ``snapshot``, unless it is already there."""
        tamiyo = snapshot.tamiyo
        run = (snapshot.run.run_id, snapshot.start_timestamp, tamiyo.heads)
        if run != self._run or tamiyo.updates < self._update:
            self._run, self._update = run, 0
            self._ratios = {name: deque(maxlen=REMEMBERED) for name in tamiyo.heads.names}
            self._norms = {name: deque(maxlen=TREND_UPDATES + 1) for name in tamiyo.heads.names}
        if tamiyo.updates == self._update:
            return
        self._update = tamiyo.updates
        for name, reading in tamiyo.readings.items():
            self._ratios[name].append(reading.effective)
            if reading.gradient_norm is not None:
                self._norms[name].append(reading.gradient_norm)

    def ratios(self, name: str) -> tuple[float | None, ...]:
        """Effective ratios of a head, oldest first; None where an update had none."""
        return tuple(self._ratios.get(name, ()))

    def trend(self, name: str) -> str:
        """An arrow from the mean of the norms before to the last; empty before the second."""
        norms = list(self._norms.get(name, ()))
        if len(norms) < 2:
            return ""
        *before, last = norms
        change = last - sum(before) / len(before)
        if abs(change) <= TREND_SHARE * abs(last - change):
            return "→"
        return "↗" if change > 0 else "↘"
