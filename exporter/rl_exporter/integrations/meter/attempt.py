"""What one process adds to sums over all processes, also where it could not measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Part = TypeVar("Part")


class Attempt:
    """Computes the parts that one rank adds to sums over all ranks.

    After an error, which may have come before, it gives zeros, because the other ranks still wait for a part in
    each exchange.
    """

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def part(self, compute: Callable[[], Part], otherwise: Callable[[], Part]) -> Part:
        """The result of ``compute``; after an error, in it or earlier, that of ``otherwise``."""
        if self.failure is None:
            try:
                return compute()
            except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self.failure = error
        return otherwise()
