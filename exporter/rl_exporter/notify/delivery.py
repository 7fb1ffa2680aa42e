"""Posts messages to a webhook from a thread of its own: queued, retried, and never in anybody's way."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import NamedTuple

import urllib3
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from rl_exporter.deadline import TimeLeft, pool_manager
from rl_exporter.log import exporter_log
from rl_exporter.notify.destination import Destination

MAX_WAITING = 100
"""Messages that wait for a webhook; beyond it the oldest are dropped."""

POST_SECONDS = 10.0
LONGEST_DELAY = 60.0
GIVE_UP_SECONDS = 3600.0
"""For one post as a whole; between two attempts; and the age at which a message is old news."""

END_SECONDS = 5.0
"""Longest wait at the end of a run for messages that are on their way."""

_LOG = exporter_log()
_AGAIN = frozenset({408, 425, 429})
"""Statuses of the client's side that mean: later."""


class _Waiting(NamedTuple):
    body: bytes
    since: float


class _Failure(NamedTuple):
    reason: str
    again: bool
    """Whether another attempt may succeed."""
    delay: float = 0.0
    """Seconds that the webhook asks to wait for."""


class Delivery:
    """Delivers to one webhook, in order. ``put`` never waits and raises nothing. Threads may share it.

    Times are in seconds; ``first_delay`` comes before the second attempt and doubles from there.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        first_delay: float = 1.0,
        post_seconds: float = POST_SECONDS,
        give_up: float = GIVE_UP_SECONDS,
    ) -> None:
        self._destination = destination
        self._first_delay, self._post_seconds, self._give_up = first_delay, post_seconds, give_up
        # One attempt, at one address: the queue has its own retries, and a redirect may lead anywhere.
        self._pool = pool_manager(num_pools=1, maxsize=1, retries=False)
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._deadline: float | None = None
        """End of the time that ``close`` gives; None before it."""
        self._lost = 0
        self._is_waited_for = False
        """Whether ``close`` says what is lost: the thread might be about to say it when the process ends."""
        self._complained = False
        # At once: while the interpreter ends, which may be when the run fails, Python starts no thread.
        self._thread = threading.Thread(target=self._work, name="rl-exporter notify", daemon=True)
        self._thread.start()

    def put(self, body: bytes) -> None:
        """Queue a message."""
        with self._changed:
            self._waiting.append(_Waiting(body, time.monotonic()))
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._changed.notify_all()

    def finish(self, seconds: float = END_SECONDS) -> None:
        """Deliver what is queued within ``seconds`` and then end, without waiting for it here."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify_all()

    def close(self, seconds: float = END_SECONDS) -> None:
        """Wait until everything is delivered, ``seconds`` at most; the log says how much is lost then."""
        self._is_waited_for = True
        self.finish(seconds)
        self._thread.join(seconds)
        self._say_what_is_lost()

    def _say_what_is_lost(self) -> None:
        with self._changed:
            lost, self._lost = self._lost + len(self._waiting), 0
            self._waiting.clear()
        if lost:
            self._say("%d of the messages to %s could not be delivered", lost, self._destination.host)

    def _work(self) -> None:
        delay = 0.0
        while (message := self._next(delay)) is not None:
            failure = self._post(message.body)
            if failure is None:
                delay = 0.0
                self._done(message)
                self._say_that_it_works()
                continue
            if self._over():
                break
            self._complain(failure)
            if failure.again and time.monotonic() - message.since < self._give_up:
                delay = min(max(2 * delay, self._first_delay), LONGEST_DELAY) * random.uniform(0.75, 1.0)
                delay = max(delay, min(failure.delay, LONGEST_DELAY))
            else:
                delay = 0.0
                self._done(message, lost=True)
        if not self._is_waited_for:
            self._say_what_is_lost()

    def _next(self, delay: float) -> _Waiting | None:
        """The oldest message, after ``delay`` seconds; None once ``close`` has nothing more to wait for."""
        with self._changed:
            until = time.monotonic() + delay
            while True:
                now = time.monotonic()
                if self._deadline is not None and (now >= self._deadline or not self._waiting):
                    return None
                if self._waiting and now >= until:
                    return self._waiting[0]
                ends = [t for t in (until if self._waiting else None, self._deadline) if t is not None]
                self._changed.wait(min(ends) - now if ends else None)

    def _over(self) -> bool:
        with self._changed:
            return self._deadline is not None and time.monotonic() >= self._deadline

    def _done(self, message: _Waiting, *, lost: bool = False) -> None:
        with self._changed:
            # A full queue may have dropped it meanwhile, and counted it.
            if self._waiting and self._waiting[0] is message:
                self._waiting.popleft()
                self._lost += lost

    def _post(self, body: bytes) -> _Failure | None:
        headers = {"Content-Type": "application/json", "User-Agent": "rl-exporter"}
        if self._destination.basic_auth is not None:
            headers |= urllib3.make_headers(basic_auth=self._destination.basic_auth)
        try:
            response = self._pool.request(
                "POST", self._destination.url, body=body, headers=headers, redirect=False,
                timeout=TimeLeft(self._post_seconds), preload_content=False,
            )  # fmt: skip
            # What it says beyond the status is of no use, and may be endless.
            response.close()
        except (HTTPError, OSError) as error:
            return _Failure(_reason(error, self._post_seconds), again=True)
        except Exception as error:  # noqa: BLE001 - the thread must live on, whatever a library raises
            return _Failure(f"{type(error).__name__}", again=False)
        return _refusal(response)

    def _complain(self, failure: _Failure) -> None:
        """Say once what is wrong, until it has worked again."""
        if not self._complained:
            self._complained = True
            what = "it tries again meanwhile" if failure.again else "the message is dropped"
            self._say("messages to %s do not arrive: %s; %s, and nothing else stops",
                      self._destination.host, failure.reason, what)  # fmt: skip

    def _say_that_it_works(self) -> None:
        if self._complained:
            self._complained = False
            with self._changed:
                lost, self._lost = self._lost, 0
            self._say("messages to %s arrive again; %d were lost", self._destination.host, lost)

    def _say(self, line: str, *values: object) -> None:
        _LOG.warning(line, *values)


def _refusal(response: urllib3.BaseHTTPResponse) -> _Failure | None:
    status = response.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return _Failure(f"it redirects (HTTP status {status}); give the address that it leads to", again=False)
    again = status >= 500 or status in _AGAIN
    remedy = "" if again else " (is its URL right, and does it take this format?)"
    return _Failure(f"it answers with HTTP status {status}{remedy}", again, _asked_delay(response))


def _asked_delay(response: urllib3.BaseHTTPResponse) -> float:
    """Seconds in Retry-After; 0 without, and where it is a date."""
    try:
        return max(float(response.headers.get("Retry-After", "0")), 0.0)
    except ValueError:
        return 0.0


def _reason(error: Exception, seconds: float) -> str:
    """The kind of an error. Its text would hold the URL."""
    if isinstance(error, NameResolutionError):
        return "its host name cannot be resolved"
    if isinstance(error, NewConnectionError):
        return "it cannot be connected to"
    if isinstance(error, HTTPTimeoutError | OSError):
        return f"no answer within {seconds:g} s"
    return "TLS fails: is its certificate trusted?" if isinstance(error, SSLError) else "the connection broke"
