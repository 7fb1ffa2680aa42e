"""Tracks which clients scraped recently, and which of them have fetched the final state of the run."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

RECENT_SECONDS = 300.0
"""The end of a run waits for clients that scraped within this time. Scrape intervals are rarely longer."""

MOST = 256
"""Scrapers remembered, more than a server has connections: no other one displaces who keeps its connection."""

_AGENT_LENGTH = 100

_NAMED = 3
"""Scrapers that a line names; it counts the others."""

Client = tuple[str, str]
"""Remote address and user agent."""


class Connection(Protocol):
    """What tells two scrapers apart that share an address and a user agent, such as a pair of replicas."""

    @property
    def is_open(self) -> bool:
        """Whether the client still has it."""


@dataclass(slots=True, eq=False)
class _Scraper:
    client: Client
    connection: Connection
    last: float
    waited_for: bool = False


class Scrapers:
    """Remembers each scraper's last scrape, so that a run can stay up until every one has its final state.

    Without the wait Prometheus would never see that a short run completed, and would report it as vanished.

    A connection is a scraper, because Prometheus keeps its connection from scrape to scrape. A new connection
    of a known client is a further scraper if that client's others are still open; else it is the one whose
    connection has closed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._known: list[_Scraper] = []
        self._ended = False
        self._anybody = False
        """Whether the end waits for the first scrape of a run that discovery lists and nobody has scraped."""

    def scraped(self, client: Client, connection: Connection, *, final: bool) -> None:
        """Record a scrape by ``client``. ``final``: the response showed that the run had ended."""
        client = (client[0], client[1][:_AGENT_LENGTH])
        with self._changed:
            scraper = self._recognised(client, connection) or self._new(client, connection)
            scraper.connection, scraper.last = connection, self._clock()
            if final and self._ended:
                scraper.waited_for = self._anybody = False
                self._changed.notify_all()

    def run_ended(self, *, expected: bool = False) -> None:
        """Start waiting for recent scrapers: from now on every scrape carries the final state.

        ``expected``: discovery lists this run, so wait for a scrape even if the run was too short to be found
        yet.
        """
        with self._changed:
            horizon = self._clock() - RECENT_SECONDS
            for scraper in self._known:
                scraper.waited_for = scraper.last >= horizon
            self._ended = True
            self._anybody = expected and not self._waiting()

    def wait(self, seconds: float) -> bool:
        """Wait until every recent scraper has the final state. Returns False if ``seconds`` pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting(), timeout=seconds)

    def waits_for(self) -> str:
        """Whom the end of the run still waits for, as people read it; empty where that is nobody."""
        with self._changed:
            who = Counter(_described(scraper.client) for scraper in self._known if scraper.waited_for)
            if not who:
                return "a first scraper, for nobody has come yet," if self._anybody else ""
        named = [f"{count} of {name}" if count > 1 else name for name, count in who.most_common(_NAMED)]
        more = sum(who.values()) - sum(count for _, count in who.most_common(_NAMED))
        return _enumerated([*named, *([f"{more} more"] if more else [])])

    def _waiting(self) -> bool:
        return self._anybody or any(scraper.waited_for for scraper in self._known)

    def _recognised(self, client: Client, connection: Connection) -> _Scraper | None:
        same = [scraper for scraper in self._known if scraper.client == client]
        for scraper in same:
            if scraper.connection is connection:
                return scraper
        closed = [scraper for scraper in same if not scraper.connection.is_open]
        # The one that is due: at the end it has not got the final state, and before that it came longest ago.
        return min(closed, key=lambda scraper: (not scraper.waited_for, scraper.last), default=None)

    def _new(self, client: Client, connection: Connection) -> _Scraper:
        if len(self._known) >= MOST:
            self._known.remove(min(self._known, key=lambda scraper: (scraper.connection.is_open, scraper.last)))
        self._known.append(_Scraper(client, connection, self._clock()))
        return self._known[-1]


def while_lingering(waits_for: str, seconds: float) -> str:
    """What to tell a person who sees a program wait for ``waits_for`` at its end; it waits ``seconds`` at most.

    The answer to Ctrl-C is true of a recorder and of rl-train alike.
    """
    return f"waits up to {seconds:g} s for {waits_for} to fetch the final state; Ctrl-C skips the wait"


def _described(client: Client) -> str:
    address, agent = client
    # A stranger chose it, and it goes to a terminal, which obeys some characters.
    printable = agent.encode("ascii", "backslashreplace").decode()
    return f"{printable or 'a scraper'} at {address}"


def _enumerated(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
