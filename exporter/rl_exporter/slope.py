"""Least-squares slope of a head's last effective ratios."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import mul

SLOPE_UPDATES = 10
"""Effective ratios that the slope looks back over."""


class SlopeWindow:
    """The last effective ratios, each with the number of its update."""

    __slots__ = ("_ratios", "_updates")

    def __init__(self) -> None:
        self._updates: deque[int] = deque(maxlen=SLOPE_UPDATES)
        self._ratios: deque[float] = deque(maxlen=SLOPE_UPDATES)

    def add(self, update: int, ratio: float) -> None:
        """Add a point; its update number is above that of the last."""
        self._updates.append(update)
        self._ratios.append(ratio)

    def slope(self) -> float | None:
        """Change of the ratio per update; None before the second point."""
        points = len(self._updates)
        if points < 2:
            return None
        even = self._updates[-1] - self._updates[0] < points
        weights = _EVEN_WEIGHTS[points] if even else _slope_weights(self._updates)
        return float(sum(map(mul, weights, self._ratios)))


def _slope_weights(positions: Sequence[int]) -> tuple[float, ...]:
    middle = sum(positions) / len(positions)
    spread = sum((x - middle) ** 2 for x in positions)
    return tuple((x - middle) / spread for x in positions)


_EVEN_WEIGHTS = ((), (), *(_slope_weights(range(n)) for n in range(2, SLOPE_UPDATES + 1)))
"""By number of points: the weights of points one update apart, which is nearly always the case."""
