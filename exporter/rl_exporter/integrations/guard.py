"""Telemetry inside somebody else's training loop: an error in it is counted and logged, never raised."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rl_exporter.log import exporter_log

_LOG = exporter_log()


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
            _LOG.error("telemetry failed; training goes on, further errors are only counted", exc_info=error)
        return True
