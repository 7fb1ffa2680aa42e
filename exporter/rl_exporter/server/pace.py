"""Keeps what answers cost to a share of a core, however many clients ask: training shares the interpreter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Makes answers at once, and in turn when they have cost more than ``share`` of a core.

    ``burst`` seconds of CPU are free, and come back at that rate: all scrapers of a run may ask in one moment.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        share: float,
        burst: float,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._loop = loop
        self._share, self._burst = share, burst
        self._cpu = cpu
        self._spent = 0.0
        self._at = loop.time()
        self._waiting: dict[object, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def has_to_wait(self, client: object, make: Callable[[], None]) -> bool:
        """Make an answer now, or in the turn of ``client``, which has one at a time; whether it has to wait."""
        if self._waiting or self._seconds_to_wait() > 0:
            self._waiting[client] = make
            self._plan()
            return True
        self._make(make)
        return False

    def forget(self, client: object) -> None:
        """Make no answer for a client that has gone."""
        self._waiting.pop(client, None)

    def _seconds_to_wait(self) -> float:
        now = self._loop.time()
        self._spent = max(0.0, self._spent - self._share * (now - self._at))
        self._at = now
        return max(0.0, (self._spent - self._burst) / self._share)

    def _plan(self) -> None:
        if self._waiting and self._timer is None:
            self._timer = self._loop.call_later(self._seconds_to_wait(), self._next)

    def _next(self) -> None:
        self._timer = None
        if self._waiting:
            self._make(self._waiting.pop(next(iter(self._waiting))))
        self._plan()

    def _make(self, make: Callable[[], None]) -> None:
        before = self._cpu()
        make()
        self._spent += self._cpu() - before
