"""Telemetry inside somebody else's training loop: an error in it is counted and logged, never raised."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_LOG = logging.getLogger("rl_exporter")


class ErrorGuard:
    """``with guard:`` around telemetry lets no Exception out; ``count`` hears of each, the log of the first.

    KeyboardInterrupt and SystemExit belong to the program and pass.
    """

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count
        self._logged = False

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._count()
        if not self._logged:
            self._logged = True
            with suppress(Exception):  # of a program's own handler, which may send the record anywhere
                _LOG.error(
                    "telemetry failed; training goes on, further errors are only counted", exc_info=error
                )
        return True
