"""How samples read from a snapshot. A reader that yields nothing leaves a metric without a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from rl_exporter.heads import Head
from rl_exporter.health import CRITICAL_THRESHOLD, WARNING_THRESHOLD, HeadState
from rl_exporter.histogram import Histogram
from rl_exporter.snapshot import HeadReading, RunState, SanctumSnapshot

Sample = tuple[tuple[str, ...], float | Histogram]
"""Label values beside run_id, and a value."""


_UNITS = ("nats", "ratio", "seconds", "updates")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``read`` yields its samples from a snapshot."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[SanctumSnapshot], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Unit as OpenMetrics wants it: the suffix of the name, or nothing."""
        suffix = self.name.removesuffix("_total").rpartition("_")[2]
        return suffix if suffix in _UNITS else ""


def scalar(value: Callable[[SanctumSnapshot], float | None]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    """One value of the run; no sample while it is None."""

    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        number = value(snapshot)
        if number is not None:
            yield (), float(number)

    return read


def per_head(value: Callable[[HeadReading], float | None]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    """One value of every head's reading; no sample while it is None."""

    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        for name, reading in snapshot.tamiyo.readings.items():
            number = value(reading)
            if number is not None:
                yield (name,), float(number)

    return read


def declared(value: Callable[[Head], float]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    """One value of every head as it was declared."""
    return lambda snapshot: [((head.name,), value(head)) for head in snapshot.tamiyo.heads]


def unmeasured_updates(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Updates since each head was last measured."""
    for name in snapshot.tamiyo.readings:
        updates = snapshot.tamiyo.unmeasured_updates(name)
        if updates is not None:
            yield (name,), float(updates)


def low_streaks(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Both low streaks of every head that had an effective ratio."""
    for name, reading in snapshot.tamiyo.readings.items():
        if reading.critical_streak is not None and reading.warning_streak is not None:
            yield (name, f"{CRITICAL_THRESHOLD:g}"), float(reading.critical_streak)
            yield (name, f"{WARNING_THRESHOLD:g}"), float(reading.warning_streak)


def head_states(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """1 for the state of each head that has one, 0 for the others."""
    for name, reading in snapshot.tamiyo.readings.items():
        if reading.state is not None:
            for state in HeadState:
                yield (name, state.value), float(state is reading.state)


def conditions(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Since when each condition of a head has held."""
    for name, reading in snapshot.tamiyo.readings.items():
        for condition, since in reading.conditions:
            yield (name, condition.value), since


def nonfinite_values(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """NaNs and infinities of every head."""
    for name, reading in snapshot.tamiyo.readings.items():
        yield (name, "nan"), float(reading.nan_values)
        yield (name, "inf"), float(reading.inf_values)


def histogram(value: Callable[[SanctumSnapshot], Histogram]) -> Callable[[SanctumSnapshot], Iterable[Sample]]:
    """One histogram of the run."""
    return lambda snapshot: [((), value(snapshot))]


def effective_histograms(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The effective ratios of every head."""
    for name, reading in snapshot.tamiyo.readings.items():
        yield (name,), reading.effective_histogram


def run_states(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """1 for the state of the run, 0 for the others."""
    for state in RunState:
        yield (state.value,), float(state is snapshot.run_state)


def run_info(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """What describes the run, as labels."""
    run = snapshot.run
    yield (run.experiment, run.algorithm, run.environment, run.seed, run.device, str(run.world_size)), 1.0
