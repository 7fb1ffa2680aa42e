"""How long something has held: in updates and in time."""

from __future__ import annotations


class Streak:
    """Consecutive updates at which something held, and the Unix time of the first. Not thread-safe."""

    __slots__ = ("length", "since")

    def __init__(self, length: int, since: float) -> None:
        self.length = length
        self.since = since

    def count(self, holds: bool, now: float) -> None:
        """One update more, at Unix time ``now``."""
        if not holds:
            self.length = 0
        elif self.length:
            self.length += 1
        else:
            self.length, self.since = 1, now
