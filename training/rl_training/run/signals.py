"""Counts SIGINT and SIGTERM instead of dying from them, so that a run ends between updates."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """Counts SIGINT and SIGTERM inside a with block, and restores the former handlers at its end.

    SIGHUP says that the terminal was closed. The run goes on without it, as under nohup.
    """

    def __init__(self) -> None:
        self.count = 0
        self.hung_up = False
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
        for number, former in self._former.items():
            signal.signal(number, former)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    def _closed(self, _number: int, _frame: FrameType | None) -> None:
        self.hung_up = True

    def stop(self) -> None:
        """Count as if a signal had arrived."""
        self.count += 1

    def received(self) -> bool:
        """Whether any signal has arrived."""
        return self.count > 0
