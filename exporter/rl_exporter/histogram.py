"""An immutable histogram. It counts every update, also those between two scrapes, which a gauge would lose."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

RATIO_BOUNDS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Upper bounds of entropy ratios.

The thresholds of levels and states are among them, so that a rule can count the updates below one exactly.
"""

DURATION_BOUNDS = (0.05, 0.2, 1.0, 5.0, 20.0, 60.0, 300.0, 1200.0)
"""Upper bounds in seconds: updates take 50 ms to 20 minutes."""


class Histogram(NamedTuple):
    """Counts per bucket, not cumulative: ``counts[i]`` values lie in (bounds[i - 1], bounds[i]].

    The last count holds the values above every bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        """A histogram without observations."""
        return cls(bounds, (0,) * (len(bounds) + 1), 0.0)

    def observe(self, value: float) -> Histogram:
        """Return a histogram with one more value."""
        bounds, counts, total = self
        more = list(counts)
        # bisect_left, because le includes the bound: a ratio of exactly 0.25 counts as critical.
        more[bisect_left(bounds, value)] += 1
        return Histogram(bounds, tuple(more), total + value)

    def cumulative(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, the form of the Prometheus text format."""
        pairs: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            pairs.append((bound, so_far))
        return pairs
