"""Tracks which clients scraped recently, and which of them have fetched the final state of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

RECENT_SECONDS = 300.0
"""The end of a run waits for clients that scraped within this time. Scrape intervals are rarely longer."""

Client = tuple[str, str]
"""Remote address and user agent."""

_ANYBODY: Client = ("", "")
"""Stands for the first scraper of a run that discovery lists and nobody has scraped yet."""


class Scrapers:
    """Remembers each client's last scrape, so that a run can stay up until every one has its final state.

    Without the wait Prometheus would never see that a short run completed, and would report it as vanished.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._last_scrape: dict[Client, float] = {}
        self._waiting: set[Client] | None = None

    def scraped(self, client: Client, *, final: bool) -> None:
        """Record a scrape by ``client``. ``final``: the response showed that the run had ended."""
        with self._changed:
            self._last_scrape[client] = self._clock()
            if final and self._waiting is not None:
                # Any scrape is the one that a run without known scrapers waits for.
                self._waiting -= {client, _ANYBODY}
                self._changed.notify_all()

    def run_ended(self, *, expected: bool = False) -> None:
        """Start waiting for recent clients: from now on every scrape carries the final state.

        ``expected``: discovery lists this run, so wait for a scrape even if the run was too short to be found
        yet.
        """
        with self._changed:
            horizon = self._clock() - RECENT_SECONDS
            self._waiting = {client for client, last in self._last_scrape.items() if last >= horizon}
            if expected and not self._waiting:
                self._waiting = {_ANYBODY}

    def wait(self, seconds: float) -> bool:
        """Wait until every recent client has the final state. Returns False if ``seconds`` pass before that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout=seconds)
