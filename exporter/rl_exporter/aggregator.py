"""Payloads become snapshots here: the only code that writes the state which everything else reads."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from rl_exporter.environment_metrics import EnvironmentMetrics, EnvironmentNumber, Reading, Series, series_of
from rl_exporter.forks import in_forked_child
from rl_exporter.heads import Heads
from rl_exporter.histogram import Histogram
from rl_exporter.log import exporter_log
from rl_exporter.numbers import PolicyNumbers, TrainingNumbers, attributes
from rl_exporter.payload import NOT_MEASURED, HeadMeasurement, PPOUpdatePayload
from rl_exporter.snapshot import HeadReading, RunInfo, RunState, SanctumSnapshot, TamiyoState, first_reading
from rl_exporter.tracker import HeadTracker
from rl_exporter.validity import COUNTS, DURATIONS, GAUGES, Dropped, HeadsValidity, check_run

_POLICY, _TRAINING = map(attributes, (PolicyNumbers, TrainingNumbers))
_GAUGES = tuple((number.name, number.row.kept) for number in GAUGES)
_LOG = exporter_log()

_LONGEST_UPDATE_SECONDS = 1.0
"""One of a thousand heads takes milliseconds."""


class SanctumAggregator:
    """Take one payload per update; ``snapshot`` returns the immutable state of the run after the last one.

    Thread-safe: the training loop writes while scrapes read. ``resumed`` is the last snapshot of the run to
    continue: its counters, streaks and histograms carry on. Raises ValueError if that run had other heads.
    """

    def __init__(
        self,
        heads: Heads,
        run: RunInfo,
        *,
        entropy_coefficient: float | None = None,
        resumed: SanctumSnapshot | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        former = resumed or SanctumSnapshot(
            run=run, tamiyo=TamiyoState.before_first_update(heads), start_timestamp=0.0
        )
        require_same_heads(former, heads)
        self._heads = heads
        self._names = frozenset(heads.names)
        self._order = heads.names
        self._validity = HeadsValidity(heads)
        self._run = run
        self._clock = clock
        self._renew_lock()
        in_forked_child(self._renew_lock)
        self._start_timestamp = now = clock()
        readings, memories, updates = (
            former.tamiyo.readings,
            dict(former.tamiyo.memories),
            former.tamiyo.updates,
        )
        self._trackers = [
            HeadTracker(head, readings[head.name], updates, now, memories.get(head.name)) for head in heads
        ]
        self._updates = self._resumed_updates = updates
        self._values: dict[str, float | None] = {
            **{number.name: number.of(former.tamiyo) for number in _POLICY if number.row.kept},
            **{number.name: number.of(former) for number in _TRAINING if not number.whole},
        }
        if entropy_coefficient is not None:
            self._values["entropy_coefficient"] = entropy_coefficient
        self._totals: dict[str, int] = {
            number.name: getattr(former, number.name) for number in _TRAINING if number.whole
        }
        self._histograms: dict[str, Histogram] = {
            number.name: getattr(former, f"{number.name}s") for number in DURATIONS
        }
        self._episode_return_max = former.episode_return_max
        self._run_state = RunState.RUNNING
        self._last_update_timestamp: float | None = None
        self._record_errors = former.record_errors
        self._dropped = Counter(dict(former.dropped))
        self._logged: set[tuple[str, str, bool]] = set()
        self._environment = EnvironmentMetrics(_LOG.warning)
        self._environment_metrics = former.environment_metrics
        self._environment_series: dict[str, Series] = {}
        self._tamiyo: TamiyoState | None = None
        self._last_snapshot = self._picture()
        self._snapshot: SanctumSnapshot | None = self._last_snapshot

    def _renew_lock(self) -> None:
        """In a forked child, too: a thread that the child lacks may have held the lock."""
        # Re-entrant: a signal handler that ends the run may interrupt an update.
        self._lock = threading.RLock()
        self._updating = False

    def snapshot(self) -> SanctumSnapshot:
        """The run after its last update. A snapshot never mixes two updates.

        While a signal handler interrupts an update, it is the last one that somebody took, with the present
        state of the run: the handler may wait until scrapers have seen that the run has ended.
        """
        snapshot = self._snapshot
        if snapshot is not None:
            return snapshot
        if not self._lock.acquire(timeout=_LONGEST_UPDATE_SECONDS):
            return self._interrupted()
        try:
            if self._updating:
                return self._interrupted()
            snapshot = self._snapshot = self._last_snapshot = self._picture()
        finally:
            self._lock.release()
        return snapshot

    def _interrupted(self) -> SanctumSnapshot:
        return replace(self._last_snapshot, run_state=self._run_state)

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Count one update and store what it measured.

        A value that is not finite counts as a NaN or infinity of its head, a value outside its bounds by more
        than rounding as a record error. Neither is stored: a wrong number is worse than none. The log names
        each once. Raises, and changes nothing, ValueError if the payload names an undeclared head, and
        TypeError for a value that is no number.
        """
        if not payload.heads.keys() <= self._names:
            for name in payload.heads:
                self._heads.named(name)
        measured = payload.heads.get
        # Everything is checked before anything is counted, so that no update is taken in part.
        of_heads, impossible = self._validity.check([measured(name, NOT_MEASURED) for name in self._order])
        numbers, dropped = check_run(payload)
        given = payload.environment_metrics
        reported = None if given is None else self._environment.read(given)
        dropped = (*dropped, *impossible)
        with self._lock:
            self._updating = True
            try:
                self._take(of_heads, numbers, reported, dropped)
            finally:
                self._updating = False
        if dropped:
            self._log_once(dropped)

    def _take(
        self,
        of_heads: Sequence[HeadMeasurement],
        numbers: Sequence[Any],
        reported: Reading | None,
        dropped: Sequence[Dropped],
    ) -> None:
        update = self._updates = self._updates + 1
        now = self._last_update_timestamp = self._clock()
        for tracker, values in zip(self._trackers, of_heads, strict=True):
            tracker.record(values, update, now)
        self._take_numbers(numbers)
        if reported is not None:
            self._take_environment(reported)
        for one in dropped:
            self._record_errors += one.is_error
            self._dropped[one.field] += 1
        self._tamiyo = self._snapshot = None

    def _take_numbers(self, numbers: Sequence[Any]) -> None:
        """Store the numbers of the run, in the order of GAUGES, COUNTS, DURATIONS. None: not measured."""
        values, given = self._values, iter(numbers)
        for (name, kept), value in zip(_GAUGES, given, strict=False):
            if value is not None or not kept:
                values[name] = value
        self._episode_return_max = _larger(self._episode_return_max, values["episode_return"])
        for number, value in zip(COUNTS, given, strict=False):
            self._totals[number.name] += value
        for number, value in zip(DURATIONS, given, strict=False):
            if value is not None:
                self._histograms[number.name] = self._histograms[number.name].observe(value)

    def _take_environment(self, reported: Reading) -> None:
        """Replace what the environments reported. What is left out is no error of the heads' record."""
        if reported.left_out:
            self._dropped["environment_metrics"] += reported.left_out
        numbers = reported.numbers
        if numbers.keys() != self._environment_series.keys():
            self._environment_series = {key: series_of(key) for key in sorted(numbers, key=series_of)}
        self._environment_metrics = tuple(
            EnvironmentNumber(series, numbers[key]) for key, series in self._environment_series.items()
        )

    def _log_once(self, dropped: Sequence[Dropped]) -> None:
        for one in dropped:
            key = (one.head, one.field, one.is_error)
            if key not in self._logged:
                self._logged.add(key)
                _LOG.warning("%s; it is dropped, and so are later ones, silently", one)

    def set_run_state(self, state: RunState) -> None:
        """Set the state of the run, such as completed."""
        with self._lock:
            self._run_state = state
            self._snapshot = None

    def count_record_error(self) -> None:
        """Count an error inside telemetry that lost an update, or a part of it."""
        with self._lock:
            self._record_errors += 1
            self._snapshot = None

    def _picture(self) -> SanctumSnapshot:
        if self._tamiyo is None:
            self._tamiyo = self._state()
        numbers: dict[str, Any] = {
            **{number.name: self._values[number.name] for number in _TRAINING if not number.whole},
            **self._totals,
            **{f"{name}s": histogram for name, histogram in self._histograms.items()},
        }
        return SanctumSnapshot(
            run=self._run,
            tamiyo=self._tamiyo,
            run_state=self._run_state,
            start_timestamp=self._start_timestamp,
            resumed_updates=self._resumed_updates,
            last_update_timestamp=self._last_update_timestamp,
            episode_return_max=self._episode_return_max,
            record_errors=self._record_errors,
            environment_metrics=self._environment_metrics,
            dropped=tuple(self._dropped.items()),
            **numbers,
        )

    def _state(self) -> TamiyoState:
        trackers = dict(zip(self._heads.names, self._trackers, strict=True))
        readings = {name: tracker.reading() for name, tracker in trackers.items()}
        return TamiyoState(
            heads=self._heads,
            readings=MappingProxyType(readings),
            updates=self._updates,
            entropy=_aggregate(readings, self._updates),
            memories=tuple((name, tracker.memory()) for name, tracker in trackers.items()),
            **{number.name: self._values.get(number.name) for number in _POLICY},
        )


def require_same_heads(former: SanctumSnapshot, heads: Heads) -> None:
    """Raise ValueError, with both, where a run to resume had other heads. Their order does not matter."""
    if dict(former.tamiyo.heads.sizes) != dict(heads.sizes):
        raise ValueError(
            f"cannot resume run {former.run.run_id!r}: its heads {listed(former.tamiyo.heads)} are not this "
            f"policy's {listed(heads)}; resume with the same policy"
        )


def kept_heads(former: SanctumSnapshot, heads: Heads) -> tuple[str, ...]:
    """Names of the heads that ``former`` has, too, with as many choices."""
    sizes = dict(former.tamiyo.heads.sizes)
    return tuple(name for name, choices in heads.sizes if sizes.get(name) == choices)


def with_heads(former: SanctumSnapshot, heads: Heads) -> SanctumSnapshot:
    """``former`` as the snapshot of a policy with ``heads``. A head that it lacks has not been measured yet."""
    kept, readings = kept_heads(former, heads), former.tamiyo.readings
    tamiyo = replace(
        former.tamiyo,
        heads=heads,
        readings=MappingProxyType(
            {head.name: readings[head.name] if head.name in kept else first_reading(head) for head in heads}
        ),
        memories=tuple((name, memory) for name, memory in former.tamiyo.memories if name in kept),
    )
    return replace(former, tamiyo=tamiyo)


def listed(heads: Heads) -> str:
    """Names and sizes of heads, as people read them."""
    return ", ".join(f"{name} ({choices})" for name, choices in heads.sizes)


def _aggregate(readings: dict[str, HeadReading], update: int) -> float | None:
    if not update or any(reading.measured_update != update for reading in readings.values()):
        return None
    return math.fsum(reading.entropy for reading in readings.values())


def _larger(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else max(one, other)
