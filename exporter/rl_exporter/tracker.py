"""The memory of one head between updates: streaks, state, histogram, slope, and the last values."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
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
from rl_exporter.streaks import RecentInformation, SlopeWindow, Streak, with_information_ratio

_NUMBERS = tuple(number.name for number in attributes(HeadNumbers))

START_UPDATES = 10
"""Measured updates whose median is the reference of a head that is compared with its start."""


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
        "_information",
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
        self._information = RecentInformation()

    def record(self, measured: HeadMeasurement, update: int, now: float) -> None:
        """Store what ``update`` measured at Unix time ``now``; its values are possible.

        An update without any measurement of the head keeps the last values. Its gradients still count.
        """
        self._nan += measured.nan_steps + measured.nan_gradients
        self._inf += measured.inf_steps + measured.inf_gradients
        entropy, choice, share = measured.entropy, measured.choice_entropy, measured.choice_share
        ratio, had_choice, blind = None, None, True
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
            if measured.state_information is not None and measured.state_information_ratio is None:
                measured = self._last = with_information_ratio(measured, measured.state_information)
            nats, explained = measured.state_information, measured.state_information_ratio
            blind = is_blind(nats, explained)
            if ratio is not None:
                self._count(ratio, self._information.judged(nats, explained), update, now)
        self._unmeasured.count(entropy is None, now)
        self._idle.count(ratio is None and self._head.choices > 1, now)
        finite = not (measured.nan_gradients or measured.inf_gradients)
        self._enter(self._state_of(ratio, measured, finite, had_choice, blind), now)

    def _state_of(
        self, ratio: float | None, measured: HeadMeasurement, finite: bool, had_choice: bool | None, blind: bool
    ) -> HeadState | None:
        head = self._head
        return head_state(
            ratio,
            measured.gradient_norm,
            finite,
            had_choice,
            blind=blind,
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

    def _count(self, ratio: float, blind: bool | None, update: int, now: float) -> None:
        self._ratio_seen = True
        warning, critical = self._head.thresholds
        low, collapsed = at_or_below(ratio, warning), at_or_below(ratio, critical)
        if low or collapsed:
            self._warning.count(low, now)
            self._critical.count(collapsed, now)
            if blind is not None or not collapsed:
                self._collapsed.count(collapsed and bool(blind), now)
                self._settled.count(collapsed and not blind, now)
            if blind is not None or not low:
                self._low.count(low and bool(blind), now)
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
