"""SIGINT and SIGTERM: the first ends a run between updates, the second at once."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_ANOTHER_SECONDS = 0.5
"""A launcher passes on the signal that its terminal sent to both: one that comes sooner is the same wish."""

_LOOK_SECONDS = 0.2


class StopSignals:
    """Counts SIGINT and SIGTERM inside a with block, and restores the former handlers at its end.

    SIGHUP says that the terminal was closed. The run goes on without it, as under nohup. ``second_ends``:
    whether a second signal ends what ``ending_at_once`` holds.
    """

    def __init__(self, *, second_ends: bool = False) -> None:
        self._second_ends = second_ends
        self.count = 0
        self.hung_up = False
        self.at_once = False
        """A second signal has ended what ``ending_at_once`` held."""
        self._first = 0.0
        self._raises = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._received)
            self._former[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._closed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """Inside, a second signal raises KeyboardInterrupt, also out of what blocks; the third is as before."""
        self._raises = self._second_ends
        try:
            yield
        finally:
            self._raises = False

    def _restore(self) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        self._first = self._first or now
        self.count += 1
        if self._raises and now - self._first > _ANOTHER_SECONDS:
            self._raises, self.at_once = False, True
            self._restore()
            raise KeyboardInterrupt

    def _closed(self, _number: int, _frame: FrameType | None) -> None:
        self.hung_up = True

    def wait(self, seconds: float) -> None:
        """Wait, or until a signal has arrived."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.received():
            time.sleep(min(left, _LOOK_SECONDS))

    def stop(self) -> None:
        """Count as if a signal had arrived."""
        self.count += 1

    def received(self) -> bool:
        """Whether any signal has arrived."""
        return self.count > 0
