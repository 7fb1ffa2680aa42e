"""An immutable histogram, for what Prometheus would otherwise lose between two scrapes."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

RATIO_BOUNDS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Upper bounds of entropy ratios; the thresholds of the levels and of the states are among them."""

DURATION_BOUNDS = (0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1200.0)
"""Upper bounds in seconds: updates take 50 ms to 20 minutes."""


class Histogram(NamedTuple):
    """Counts per bucket, not cumulative: ``counts[i]`` values lie in (bounds[i - 1], bounds[i]].

    The last count is of values above every bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        """A histogram that has seen nothing."""
        return cls(bounds, (0,) * (len(bounds) + 1), 0.0)

    def observe(self, value: float) -> Histogram:
        """The histogram with one more value."""
        bounds, counts, total = self
        more = list(counts)
        more[bisect_left(bounds, value)] += 1
        return Histogram(bounds, tuple(more), total + value)

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, as Prometheus wants them."""
        pairs: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            pairs.append((bound, so_far))
        return pairs
