"""The memory of one head between updates: streaks, state, histogram, slope, and the last values."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from statistics import median

from rl_exporter.heads import MAXIMUM, START, Head
from rl_exporter.health import (
    CONFUSED_ABOVE,
    DETERMINISTIC_BELOW,
    SUSTAINED_UPDATES,
    Condition,
    HeadState,
    at_or_below,
    head_state,
    is_blind,
)
from rl_exporter.histogram import RATIO_BOUNDS, Histogram
from rl_exporter.memory import INFORMATION_UPDATES, SLOPE_UPDATES, START_UPDATES, HeadMemory, Streaks
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement
from rl_exporter.snapshot import HeadReading, declared_reference, effective_ratio, relative_ratio
from rl_exporter.streaks import RecentInformation, SlopeWindow, Streak, information_ratio

_NUMBERS = tuple(number.name for number in attributes(HeadNumbers))
_TOTALS = tuple(number.name for number in attributes(HeadNumbers) if number.row.kind == "counter")


class HeadTracker:
    """Count every update of one head; ``reading`` returns its immutable state.

    ``record`` changes numbers in place, so it costs the training loop a microsecond or two; ``reading`` builds
    the immutable copy only when a reader asks for it. Not thread-safe. ``resumed`` is the reading after
    ``updates``, with the ``memory`` of that time where it is known, ``now`` the Unix time at which the run
    starts or resumes: conditions that held then count from ``now``, except ``idle``. What was counted under
    another reference or other thresholds does not count.
    """

    __slots__ = (
        "_attention",
        "_collapsed",
        "_counts",
        "_critical",
        "_entropy",
        "_explained",
        "_first",
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
        "_relative",
        "_settled",
        "_shares",
        "_starved",
        "_state",
        "_streak",
        "_sum",
        "_totals",
        "_unmeasured",
        "_warning",
        "_window",
    )  # fmt: skip

    def __init__(
        self, head: Head, resumed: HeadReading, updates: int, now: float, memory: HeadMemory | None = None
    ) -> None:
        memory = memory or _recalled(resumed)
        self._head = head
        self._entropy = resumed.entropy
        self._measured_update = resumed.measured_update
        self._last: HeadNumbers = resumed
        self._totals: dict[str, float] = {}
        self._keep_totals(resumed)
        self._shares = resumed.action_shares
        self._explained = resumed.state_information_ratio
        self._first = list(memory.first)
        self._reference = self._start() if head.reference == START else declared_reference(head)
        self._relative = head.reference != MAXIMUM
        self._attention = max(head.thresholds)
        same_ratio = (resumed.relative, resumed.relative and resumed.reference) == (
            self._relative,
            self._relative and self._reference,
        )
        comparable = same_ratio and resumed.thresholds == head.thresholds
        self._state, self._streak = resumed.state, Streak(resumed.state_streak if comparable else 0, now)
        self._ratio_seen = resumed.warning_streak is not None
        self._warning = Streak((resumed.warning_streak or 0) if comparable else 0, now)
        self._critical = Streak((resumed.critical_streak or 0) if comparable else 0, now)
        self._unmeasured = Streak(updates - resumed.measured_update, now)
        low, collapsed, settled, starved, idle = memory.streaks
        self._low = Streak(low if comparable else 0, now)
        self._collapsed = Streak(collapsed if comparable else 0, now)
        self._settled = Streak(settled if comparable else 0, now)
        self._starved = Streak(starved, now)
        # Idle silences alerts about the ratio of a head; a resume must not let them speak again.
        self._idle = Streak(idle, dict(resumed.conditions).get(Condition.IDLE, now))
        self._nan, self._inf = resumed.nan_values, resumed.inf_values
        self._counts, self._sum = list(resumed.effective_histogram.counts), resumed.effective_histogram.sum
        self._window = SlopeWindow(memory.updates, memory.ratios) if same_ratio else SlopeWindow()
        self._former_slope = resumed.slope if same_ratio else None
        self._information = RecentInformation(memory.nats, memory.uncertain)

    def record(self, measured: HeadMeasurement, update: int, now: float) -> None:
        """Store what ``update`` measured at Unix time ``now``; its values are possible.

        An update without any measurement of the head keeps the last values. Its gradients still count.
        """
        finite = not (measured.nan_gradients or measured.inf_gradients)
        if not finite or measured.nan_steps or measured.inf_steps:
            self._nan += measured.nan_steps + measured.nan_gradients
            self._inf += measured.inf_steps + measured.inf_gradients
        if measured.interventions_raised is not None or measured.interventions_released is not None:
            self._keep_totals(measured)
        ratio, had_choice, share = None, None, measured.choice_share
        if share is not None or measured.entropy is not None or measured.choice_entropy is not None:
            if share == 0.0 and measured.choice_entropy is not None:
                measured = replace(measured, choice_entropy=None)
            ratio = self._ratio(measured, update)
            self._explained = information_ratio(measured)
            if measured.state_information is not None and ratio is not None:
                self._information.add(measured.state_information, self._explained)
            self._last, self._shares = measured, measured.action_shares or ()
            if ratio is None:
                had_choice = self._had_choice(measured, now)
        if ratio is None:
            self._idle.count(self._head.choices > 1, now)
        else:  # which is usual, and then a call less for each streak counts: this is the training thread
            self._starved.length = self._idle.length = 0
            self._count(ratio, measured, update, now)
        self._unmeasured.count(measured.entropy is None, now)
        self._enter(self._state_of(ratio, measured, finite, had_choice), now)

    def _keep_totals(self, given: HeadNumbers) -> None:
        """A total stays where nobody counts any more, and where somebody counts anew from 0."""
        for name in _TOTALS:
            total = getattr(given, name)
            if total is not None:
                self._totals[name] = max(total, self._totals.get(name, 0.0))

    def _had_choice(self, measured: HeadMeasurement, now: float) -> bool | None:
        """Whether the head had a choice step in an update without effective ratio; counts starvation."""
        share, opened = measured.choice_share, measured.open_share
        self._starved.count(share == 0.0 and opened is not None and opened > 0.0, now)
        if share is None:
            return None if self._head.choices > 1 else False
        return share > 0.0

    def _ratio(self, measured: HeadMeasurement, update: int) -> float | None:
        """The effective ratio of an update; it keeps the entropy."""
        entropy, choice, share = measured.entropy, measured.choice_entropy, measured.choice_share
        if entropy is not None:
            self._entropy, self._measured_update = entropy, update
            if len(self._first) < START_UPDATES:
                self._learn_start(entropy)
        if self._relative:
            return relative_ratio(entropy, self._reference, share)
        return effective_ratio(None if entropy is None else self._head.normalize(entropy), choice, share)

    def _state_of(
        self, ratio: float | None, measured: HeadMeasurement, finite: bool, had_choice: bool | None
    ) -> HeadState | None:
        # Only a head that practically no longer explores can be dead.
        blind = ratio is not None and ratio < DETERMINISTIC_BELOW
        return head_state(
            ratio,
            measured.gradient_norm,
            finite,
            had_choice,
            blind=blind and is_blind(measured.state_information, self._explained),
            # A share of its own start says nothing about how close to uniform a head is.
            nearly_uniform=self._entropy > CONFUSED_ABOVE * self._head.max_entropy if self._relative else None,
            thresholds=self._head.thresholds,
        )

    def _learn_start(self, entropy: float) -> None:
        # Whatever the reference is: a later resume may ask for the start of the run.
        self._first.append(entropy)
        if self._head.reference == START:
            self._reference = self._start()

    def _start(self) -> float | None:
        # A start without entropy can be no reference: the head then never gets a verdict.
        return median(self._first) or None if len(self._first) == START_UPDATES else None

    def _count(self, ratio: float, measured: HeadMeasurement, update: int, now: float) -> None:
        self._ratio_seen = True
        warning, critical = self._head.thresholds
        # The first comparison decides in the usual case, on the training thread: it saves eight calls.
        if ratio <= self._attention:
            low, collapsed = at_or_below(ratio, warning), at_or_below(ratio, critical)
            blind = self._information.judged(measured.state_information, self._explained)
            self._warning.count(low, now)
            self._critical.count(collapsed, now)
            if blind is not None or not collapsed:
                self._collapsed.count(collapsed and bool(blind), now)
                self._settled.count(collapsed and not blind, now)
            if blind is not None or not low:
                self._low.count(low and bool(blind), now)
        else:
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
        last = {name: getattr(self._last, name) for name in _NUMBERS}
        return HeadReading(
            **last | self._totals | {"entropy": self._entropy, "state_information_ratio": self._explained},
            normalized=self._head.normalize(self._entropy) if measured else None,
            measured_update=self._measured_update,
            state=self._state,
            state_streak=self._streak.length,
            warning_streak=self._warning.length if self._ratio_seen else None,
            critical_streak=self._critical.length if self._ratio_seen else None,
            slope=self._slope(),
            reference=self._reference,
            action_shares=self._shares,
            thresholds=self._head.thresholds,
            relative=self._head.reference != MAXIMUM,
            nan_values=self._nan,
            inf_values=self._inf,
            effective_histogram=Histogram(RATIO_BOUNDS, tuple(self._counts), self._sum),
            conditions=self._conditions(),
        )

    def _slope(self) -> float | None:
        """None as long as a resumed run lacks some of its last ratios: who counts ten takes all as known."""
        if not self._window:
            return self._former_slope
        whole = len(self._window) >= min(sum(self._counts), SLOPE_UPDATES)
        return self._window.slope() if whole else None

    def memory(self) -> HeadMemory:
        """What a run that resumes from the reading needs, beside it."""
        held = (self._low, self._collapsed, self._settled, self._starved, self._idle)
        streaks = Streaks(*(streak.length for streak in held))
        return HeadMemory(streaks, tuple(self._first), *self._window.points, *self._information.known)

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


def _recalled(resumed: HeadReading) -> HeadMemory:
    """What can be told from a reading alone, as of /metrics: its last update stands for those before it.

    A reference other than the maximum is taken for the start: only who resumes with ``start`` looks at it.
    """
    known = RecentInformation()
    nats = resumed.state_information
    if nats is not None and resumed.effective is not None:
        for _ in range(min(sum(resumed.effective_histogram.counts), INFORMATION_UPDATES)):
            known.add(nats, resumed.state_information_ratio)
    start = resumed.reference if resumed.relative and resumed.measured else None
    held = dict(resumed.conditions)
    streaks = Streaks(
        low=(resumed.warning_streak or 0) if Condition.LOW in held else 0,
        collapsed=(resumed.critical_streak or 0) if Condition.COLLAPSED in held else 0,
        settled=(resumed.critical_streak or 0) if Condition.SETTLED in held else 0,
        starved=SUSTAINED_UPDATES if Condition.STARVED in held else 0,
        idle=SUSTAINED_UPDATES if Condition.IDLE in held else 0,
    )
    return HeadMemory(streaks, () if start is None else (start,) * START_UPDATES, (), (), *known.known)
