"""Where a panel's snapshots come from, read so that nothing slow ever holds up the screen."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rl_exporter.client.addresses import Target
from rl_exporter.client.fetch import Fetcher, Sighting
from rl_exporter.snapshot import SanctumSnapshot

T = TypeVar("T")

LONGEST_WAIT = 30.0
"""Seconds between two tries at most."""


class Source(Protocol):
    """One run to watch. ``name`` is what people know it by before it told its own."""

    @property
    def name(self) -> str:
        """Address, or what stands for it."""

    def read(self) -> Sighting:
        """The run now; UnreachableError when it cannot be had. May block; called on threads of their own."""


@dataclass(frozen=True, slots=True)
class EndpointSource:
    """A run behind a /metrics address."""

    target: Target
    fetcher: Fetcher

    @property
    def name(self) -> str:
        """The address, without credentials."""
        return self.target.url

    def read(self) -> Sighting:
        """Fetch it."""
        return self.fetcher.fetch(self.target)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A run of this process."""

    snapshot: Callable[[], SanctumSnapshot]
    name: str = "this process"

    def read(self) -> Sighting:
        """Look at it."""
        return Sighting(self.snapshot())


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run ``function`` on a daemon thread: whatever it waits for, it cannot keep the program from ending."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # nobody can cancel a thread

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever awaits it is to see it
            outcome.set_exception(error)

    threading.Thread(target=work, name="watch", daemon=True).start()
    return asyncio.wrap_future(outcome)


class Backoff:
    """How long to wait until the next look: the interval, and longer after each failure, with jitter."""

    def __init__(self, interval: float, chance: random.Random | None = None) -> None:
        self._interval = interval
        self._chance = chance or random.Random()
        self._failures = 0

    def succeeded(self) -> float:
        """Seconds until the next look."""
        self._failures = 0
        return self._interval

    def failed(self) -> float:
        """Seconds until the next try: doubled each time, so that watchers do not storm a host."""
        self._failures += 1
        longest = max(self._interval, min(self._interval * 2.0 ** min(self._failures, 16), LONGEST_WAIT))
        return longest * self._chance.uniform(0.5, 1.0)
