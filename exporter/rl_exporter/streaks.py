"""What the exporter remembers of a head beyond its last update: streaks, slope, recent state information."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from operator import mul

from rl_exporter.decisions import NOTHING_UNCERTAIN
from rl_exporter.health import is_blind
from rl_exporter.memory import INFORMATION_UPDATES, SLOPE_UPDATES
from rl_exporter.payload import HeadMeasurement


class SlopeWindow:
    """The last effective ratios, each with the number of its update."""

    __slots__ = ("_ratios", "_updates")

    def __init__(self, updates: Iterable[int] = (), ratios: Iterable[float] = ()) -> None:
        self._updates: deque[int] = deque(updates, maxlen=SLOPE_UPDATES)
        self._ratios: deque[float] = deque(ratios, maxlen=SLOPE_UPDATES)

    def add(self, update: int, ratio: float) -> None:
        """Add a point; its update number is above that of the last."""
        self._updates.append(update)
        self._ratios.append(ratio)

    def __len__(self) -> int:
        return len(self._updates)

    @property
    def points(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Updates and ratios."""
        return tuple(self._updates), tuple(self._ratios)

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


def information_ratio(measured: HeadMeasurement) -> float | None:
    """State information as a share of the uncertainty: as measured, or derived where a loop reports nats alone.

    What the state leaves uncertain is the mean entropy over the open steps, which are the choice steps of a
    policy without operations.
    """
    nats, entropy = measured.state_information, measured.entropy
    share = measured.choice_share if measured.open_share is None else measured.open_share
    if measured.state_information_ratio is not None or nats is None or entropy is None or share == 0.0:
        return measured.state_information_ratio
    uncertain = nats + entropy / (share or 1.0)
    return nats / uncertain if uncertain >= NOTHING_UNCERTAIN else None


class Streak:
    """Number of consecutive updates at which something held, and the Unix time of the first one."""

    __slots__ = ("length", "since")

    def __init__(self, length: int, since: float) -> None:
        self.length = length
        self.since = since

    def count(self, holds: bool, now: float) -> None:
        """Count one more update, at Unix time ``now``."""
        if not holds:
            self.length = 0
        elif self.length:
            self.length += 1
        else:
            self.length, self.since = 1, now


class RecentInformation:
    """State information of the last updates that knew it, taken together."""

    __slots__ = ("_nats", "_uncertain")

    def __init__(self, nats: Iterable[float] = (), uncertain: Iterable[float] = ()) -> None:
        self._nats: deque[float] = deque(nats, maxlen=INFORMATION_UPDATES)
        self._uncertain: deque[float] = deque(uncertain, maxlen=INFORMATION_UPDATES)

    def add(self, nats: float, ratio: float | None) -> None:
        """Add what an update knew."""
        self._nats.append(nats)
        self._uncertain.append(nats / ratio if ratio else nats)

    @property
    def known(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """State information of each update, and all that was uncertain in it, in nats."""
        return tuple(self._nats), tuple(self._uncertain)

    def judged(self, nats: float | None, ratio: float | None) -> bool | None:
        """Whether the head is blind after an update, which was added; None where the update is an exception.

        One odd decision in ten updates does not make a blind head see. ``nats`` None: not known, hence blind.
        """
        if is_blind(nats, ratio):
            return True
        mean = sum(self._nats) / len(self._nats)
        return None if is_blind(mean, sum(self._nats) / sum(self._uncertain)) else False
