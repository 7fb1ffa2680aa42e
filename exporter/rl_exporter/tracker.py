"""The memory of one head between updates: streaks, state, histogram, slope, and the last values."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from operator import mul
from statistics import median

from rl_exporter.heads import MAXIMUM, START, Head
from rl_exporter.health import (
    CONFUSED_ABOVE,
    SUSTAINED_UPDATES,
    Condition,
    HeadState,
    at_or_below,
    head_state,
    is_blind,
)
from rl_exporter.histogram import RATIO_BOUNDS, Histogram
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement
from rl_exporter.snapshot import HeadReading, declared_reference, effective_ratio, relative_ratio

_NUMBERS = tuple(number.name for number in attributes(HeadNumbers))

START_UPDATES = 10
"""Measured updates whose median is the reference of a head that is compared with its start."""

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


class HeadTracker:
    """Count every update of one head; ``reading`` returns its immutable state.

    ``record`` changes numbers in place, so it costs the training loop a microsecond or two; ``reading`` builds
    the immutable copy only when a reader asks for it. Not thread-safe. ``resumed`` is the reading after
    ``updates``, ``now`` the Unix time at which the run starts or resumes: conditions that held then count from
    ``now``, except ``idle``.
    """

    __slots__ = (
        "_collapsed",
        "_counts",
        "_critical",
        "_entropy",
        "_former_slope",
        "_head",
        "_idle",
        "_inf",
        "_last",
        "_low",
        "_measured_update",
        "_nan",
        "_ratio_seen",
        "_reference",
        "_settled",
        "_shares",
        "_start",
        "_starved",
        "_state",
        "_streak",
        "_sum",
        "_unmeasured",
        "_warning",
        "_window",
    )  # fmt: skip

    def __init__(self, head: Head, resumed: HeadReading, updates: int, now: float) -> None:
        self._head = head
        self._entropy = resumed.entropy
        self._measured_update = resumed.measured_update
        self._former_slope = resumed.slope
        self._last: HeadNumbers = resumed
        self._shares = resumed.action_shares
        declared = declared_reference(head)
        self._reference = resumed.reference if declared is None and head.reference == START else declared
        self._start: list[float] = []
        self._state, self._streak = resumed.state, Streak(resumed.state_streak, now)
        self._ratio_seen = resumed.warning_streak is not None
        self._warning = Streak(resumed.warning_streak or 0, now)
        self._critical = Streak(resumed.critical_streak or 0, now)
        self._unmeasured = Streak(updates - resumed.measured_update, now)
        held = dict(resumed.conditions)
        self._low = Streak(self._warning.length if Condition.LOW in held else 0, now)
        self._collapsed = Streak(self._critical.length if Condition.COLLAPSED in held else 0, now)
        self._settled = Streak(self._critical.length if Condition.SETTLED in held else 0, now)
        self._starved = Streak(SUSTAINED_UPDATES if Condition.STARVED in held else 0, now)
        # Idle silences alerts about the ratio of a head; a resume must not let them speak again.
        self._idle = Streak(SUSTAINED_UPDATES if Condition.IDLE in held else 0, held.get(Condition.IDLE, now))
        self._nan, self._inf = resumed.nan_values, resumed.inf_values
        self._counts, self._sum = list(resumed.effective_histogram.counts), resumed.effective_histogram.sum
        self._window = SlopeWindow()

    def record(self, measured: HeadMeasurement, update: int, now: float) -> None:
        """Store what ``update`` measured at Unix time ``now``; its values are possible.

        An update without any measurement of the head keeps the last values. Its gradients still count.
        """
        self._nan += measured.nan_steps + measured.nan_gradients
        self._inf += measured.inf_steps + measured.inf_gradients
        entropy, choice, share = measured.entropy, measured.choice_entropy, measured.choice_share
        ratio, had_choice = None, None
        if entropy is not None or choice is not None or share is not None:
            if share == 0.0 and choice is not None:
                measured, choice = replace(measured, choice_entropy=None), None
            self._last, self._shares = measured, measured.action_shares or ()
            if entropy is not None:
                self._entropy, self._measured_update = entropy, update
                if self._reference is None and self._head.reference == START:
                    self._learn_start(entropy)
            self._starved.count(
                share == 0.0 and measured.open_share is not None and measured.open_share > 0.0, now
            )
            had_choice = share > 0.0 if share is not None else (None if self._head.choices > 1 else False)
            if self._head.reference == MAXIMUM:
                normalized = None if entropy is None else self._head.normalize(entropy)
                ratio = effective_ratio(normalized, choice, share)
            else:
                ratio = relative_ratio(entropy, self._reference, share)
            if ratio is not None:
                self._count(ratio, is_blind(measured.state_information), update, now)
        self._unmeasured.count(entropy is None, now)
        self._idle.count(ratio is None and self._head.choices > 1, now)
        finite = not (measured.nan_gradients or measured.inf_gradients)
        self._enter(self._state_of(ratio, measured, finite, had_choice), now)

    def _state_of(
        self, ratio: float | None, measured: HeadMeasurement, finite: bool, had_choice: bool | None
    ) -> HeadState | None:
        head = self._head
        return head_state(
            ratio,
            measured.gradient_norm,
            finite,
            had_choice,
            blind=is_blind(measured.state_information),
            # A share of its own start says nothing about how close to uniform a head is.
            nearly_uniform=None
            if head.reference == MAXIMUM
            else self._entropy > CONFUSED_ABOVE * head.max_entropy,
            thresholds=head.thresholds,
        )

    def _learn_start(self, entropy: float) -> None:
        self._start.append(entropy)
        if len(self._start) == START_UPDATES:
            # A start without entropy can be no reference: the head then never gets a verdict.
            self._reference = median(self._start) or None
            self._start.clear()

    def _count(self, ratio: float, blind: bool, update: int, now: float) -> None:
        self._ratio_seen = True
        warning, critical = self._head.thresholds
        low, collapsed = at_or_below(ratio, warning), at_or_below(ratio, critical)
        if low or collapsed:
            self._warning.count(low, now)
            self._critical.count(collapsed, now)
            self._low.count(low and blind, now)
            self._collapsed.count(collapsed and blind, now)
            self._settled.count(collapsed and not blind, now)
        else:  # the usual case, on the training thread: five calls less
            self._warning.length = self._critical.length = 0
            self._low.length = self._collapsed.length = self._settled.length = 0
        self._counts[bisect_left(RATIO_BOUNDS, ratio)] += 1
        self._sum += ratio
        self._window.add(update, ratio)

    def _enter(self, state: HeadState | None, now: float) -> None:
        if state is self._state:
            self._streak.length += state is not None
        elif state is not None:
            self._state, self._streak = state, Streak(1, now)

    def reading(self) -> HeadReading:
        """The immutable state of the head now."""
        measured = self._measured_update > 0
        slope = self._window.slope()
        last = {name: getattr(self._last, name) for name in _NUMBERS}
        return HeadReading(
            **last | {"entropy": self._entropy},
            normalized=self._head.normalize(self._entropy) if measured else None,
            measured_update=self._measured_update,
            state=self._state,
            state_streak=self._streak.length,
            warning_streak=self._warning.length if self._ratio_seen else None,
            critical_streak=self._critical.length if self._ratio_seen else None,
            slope=self._former_slope if slope is None else slope,
            reference=self._reference,
            action_shares=self._shares,
            thresholds=self._head.thresholds,
            relative=self._head.reference != MAXIMUM,
            nan_values=self._nan,
            inf_values=self._inf,
            effective_histogram=Histogram(RATIO_BOUNDS, tuple(self._counts), self._sum),
            conditions=self._conditions(),
        )

    def _conditions(self) -> tuple[tuple[Condition, float], ...]:
        """Conditions of three updates or more. An update without information neither extends nor resets one."""
        streak, state = self._streak, self._state
        held = (
            (Condition.WARNING, self._warning.length, self._warning.since),
            (Condition.CRITICAL, self._critical.length, self._critical.since),
            (Condition.LOW, self._low.length, self._low.since),
            (Condition.COLLAPSED, self._collapsed.length, self._collapsed.since),
            (Condition.SETTLED, self._settled.length, self._settled.since),
            (Condition.DEAD, streak.length if state is HeadState.DEAD else 0, streak.since),
            (Condition.EXPLODING, streak.length if state is HeadState.EXPLODING else 0, streak.since),
            (Condition.STARVED, self._starved.length, self._starved.since),
            (Condition.IDLE, self._idle.length, self._idle.since),
            (Condition.UNMEASURED, self._unmeasured.length, self._unmeasured.since),
        )
        return tuple((condition, since) for condition, length, since in held if length >= SUSTAINED_UPDATES)
