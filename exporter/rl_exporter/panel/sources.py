"""Sources of a panel's snapshots. They are read on threads, so that a slow one never blocks the screen."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from rl_exporter.client.addresses import Target
from rl_exporter.client.fetch import FetchedSnapshot, Fetcher
from rl_exporter.snapshot import SanctumSnapshot

T = TypeVar("T")

MAX_DELAY_SECONDS = 30.0
"""Longest delay between two polls of a run that does not answer."""


class Source(Protocol):
    """One run to watch."""

    @property
    def name(self) -> str:
        """The address, or what stands for it. People know the run by it until they see its run_id."""

    @property
    def scope(self) -> tuple[str, str]:
        """Cluster and namespace of the run: see ``Target``."""

    def read(self) -> FetchedSnapshot:
        """Read the run now. May block, so call it on a thread. Raises UnreachableError."""


@dataclass(frozen=True, slots=True)
class EndpointSource:
    """A run that serves /metrics."""

    target: Target
    fetcher: Fetcher

    @property
    def name(self) -> str:
        """The address."""
        return self.target.url

    @property
    def scope(self) -> tuple[str, str]:
        """That of the target."""
        return self.target.scope

    def read(self) -> FetchedSnapshot:
        """Fetch /metrics and parse it."""
        return self.fetcher.fetch(self.target)


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A run in this process."""

    snapshot: Callable[[], SanctumSnapshot]
    name: str = "this process"
    scope: tuple[str, str] = ("", "")

    def read(self) -> FetchedSnapshot:
        """Take the snapshot directly. Its clock is ours, so the offset is 0."""
        return FetchedSnapshot(self.snapshot())


def in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """Run ``function`` on a daemon thread.

    Not in asyncio's executor: Python joins its threads at exit, so one that hangs in a name lookup would keep
    the program from ending.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # a thread cannot be cancelled: refuse to pretend

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - the future carries it to the caller
            outcome.set_exception(error)

    threading.Thread(target=work, name="watch", daemon=True).start()
    return asyncio.wrap_future(outcome)


class Backoff:
    """Delays between polls: the interval, doubled after each failure, with jitter from ``rng``."""

    def __init__(self, interval: float, rng: random.Random | None = None) -> None:
        self._interval = interval
        self._rng = rng or random.Random()
        self._failures = 0

    def succeeded(self) -> float:
        """Reset the failures. Returns the seconds until the next poll."""
        self._failures = 0
        return self._interval

    def failed(self) -> float:
        """Count a failure. Returns the seconds until the next poll.

        Doubled, and drawn from the upper half, so that many watchers do not hit a host that comes back at once.
        """
        self._failures += 1
        doubled = self._interval * 2.0 ** min(self._failures, 16)  # capped: a float overflows beyond 1024
        return max(self._interval, min(doubled, MAX_DELAY_SECONDS)) * self._rng.uniform(0.5, 1.0)
