"""Who scraped lately, and who has already seen the final state of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

RECENT_SECONDS = 300.0
"""A client that scraped within this time before the end is waited for."""

Client = tuple[str, str]
"""Remote address and user agent."""

_ANYBODY: Client = ("", "")


class Scrapers:
    """Remembers when each client scraped last, so that a run can stay up until all saw its end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._last_scrape: dict[Client, float] = {}
        self._waiting: set[Client] | None = None

    def scraped(self, client: Client, *, final: bool) -> None:
        """Note that ``client`` was sent a scrape just now; ``final``: it showed the end of the run."""
        with self._changed:
            self._last_scrape[client] = self._clock()
            if final and self._waiting is not None:
                self._waiting -= {client, _ANYBODY}
                self._changed.notify_all()

    def run_ended(self, *, expected: bool = False) -> None:
        """From now on every scrape carries the final state; recent clients are to fetch it.

        ``expected``: discovery knows this run, so somebody will, even if it was too short to be found yet.
        """
        with self._changed:
            horizon = self._clock() - RECENT_SECONDS
            self._waiting = {client for client, last in self._last_scrape.items() if last >= horizon}
            if expected and not self._waiting:
                self._waiting = {_ANYBODY}

    def wait(self, seconds: float) -> bool:
        """Wait until every recent client has the final state; False when ``seconds`` were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout=seconds)
