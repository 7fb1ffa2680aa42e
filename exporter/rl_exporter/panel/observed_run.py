"""A run as its watcher knows it: the last picture, how old it is, and why there is no newer one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from rl_exporter.client.fetch import Sighting, UnreachableError
from rl_exporter.panel.sources import Backoff, Source, in_thread
from rl_exporter.snapshot import RunState, SanctumSnapshot
from rl_exporter.view.cells import Tone, age
from rl_exporter.view.history import History
from rl_exporter.view.run_view import RunView, run_view
from rl_exporter.view.verdict import Finding, Status, rank, run_status, weakest

_GRACE = 1.0
"""Seconds beyond its own limit after which a source is no longer waited for."""


class ObservedRun:
    """One source: look at it again and again, and keep what was seen. Not thread-safe.

    ``clock`` gives Unix seconds and ``monotonic`` seconds that only grow; tests give their own.
    """

    def __init__(
        self,
        source: Source,
        backoff: Backoff,
        *,
        timeout: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.problem: str | None = None
        """Why the last look showed nothing; None when it did, or before the first."""
        self._backoff = backoff
        self._timeout = timeout
        self._clock, self._monotonic = clock, monotonic
        self._history = History()
        self._sighting: Sighting | None = None
        self._seen = self._next_look = monotonic()
        self._pending: asyncio.Future[Sighting] | None = None

    @property
    def snapshot(self) -> SanctumSnapshot | None:
        """What was seen last."""
        return self._sighting.snapshot if self._sighting else None

    @property
    def status(self) -> Status:
        """The verdict on what was seen last."""
        return run_status(self.snapshot)

    async def look(self) -> float:
        """Look once; returns the seconds to wait until the next look. Raises nothing."""
        try:
            self._sighting = await self._read()
        except Exception as error:  # noqa: BLE001 - a panel outlives whatever a source does
            known = isinstance(error, UnreachableError)
            self.problem = (
                str(error) if known else f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            )
            delay = self._backoff.failed()
        else:
            self.problem = None
            self._history.add(self._sighting.snapshot)
            self._seen = self._monotonic()
            delay = self._backoff.succeeded()
        self._next_look = self._monotonic() + delay
        return delay

    async def _read(self) -> Sighting:
        """Read on a thread; one that does not come back, as a name lookup may not, is not started twice."""
        if self._pending is None or self._pending.done():
            self._pending = in_thread(self.source.read)
        await asyncio.wait({self._pending}, timeout=self._timeout + _GRACE)
        if not self._pending.done():
            raise UnreachableError(f"no answer within {self._timeout:g} s")
        return self._pending.result()

    def view(self) -> RunView | None:
        """How the last picture looks now; None before the first."""
        if self._sighting is None:
            return None
        return run_view(self._sighting.snapshot, self._clock() + self._sighting.clock_offset, self._history)

    def notice(self) -> Finding | None:
        """What to know about the picture itself: stale, gone, or never there. None when it is current."""
        if self.problem is None:
            return (
                Finding("connecting", Tone.WARNING, "", f"to {self.source.name}")
                if self._sighting is None
                else None
            )
        wait = max(self._next_look - self._monotonic(), 0.0)
        again = f"{self.problem}; trying again in {age(wait)}"
        if self._sighting is None:
            return Finding("no data", Tone.WARNING, "", again)
        old = age(self._monotonic() - self._seen)
        if self._sighting.snapshot.run_state is not RunState.RUNNING:
            return Finding("ended", Tone.DIM, "", f"this is its last picture, {old} old; {again}")
        return Finding("stale", Tone.WARNING, "", f"this picture is {old} old: {again}")

    def order(self) -> tuple[int, float, str]:
        """Sorts runs worst first, those of one status by their weakest head."""
        low = weakest(self.snapshot) if self.snapshot else None
        return rank(self.status), low[1] if low else 2.0, self.source.name


def worst_first(runs: Iterable[ObservedRun]) -> list[ObservedRun]:
    """The runs, worst first."""
    return sorted(runs, key=ObservedRun.order)
