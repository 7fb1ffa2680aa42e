"""What the metrics of several series read from a snapshot; nothing, where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from rl_exporter.heads import Head
from rl_exporter.health import HeadState
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import Attribute
from rl_exporter.snapshot import RunState, SanctumSnapshot

Sample = tuple[tuple[str, ...], float | Histogram]
"""Label values beside run_id, and a value."""

Reader = Callable[[SanctumSnapshot], Iterable[Sample]]

SHOWN_ACTIONS = 16
"""A head of more choices has no series per action: a vocabulary would be a hundred thousand of them."""


def of_each_head(numbers: Sequence[Attribute]) -> Reader:
    """The values of numbers that share a metric, for each head that has them; their labels tell them apart."""
    labels = [tuple(value for _, value in number.row.labels) for number in numbers]

    def read(snapshot: SanctumSnapshot) -> Iterator[Sample]:
        for name, reading in snapshot.tamiyo.readings.items():
            for number, rest in zip(numbers, labels, strict=True):
                value = number.of(reading)
                if value is not None:
                    yield (name, *rest), float(value)

    return read


def declared(value: Callable[[Head], float]) -> Reader:
    """One value of every head as it was declared."""
    return lambda snapshot: [((head.name,), value(head)) for head in snapshot.tamiyo.heads]


def positions(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The place of each head in the policy."""
    for position, head in enumerate(snapshot.tamiyo.heads):
        yield (head.name,), float(position)


def unmeasured_updates(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Updates since each head was measured, once it has been."""
    for name in snapshot.tamiyo.readings:
        updates = snapshot.tamiyo.unmeasured_updates(name)
        if updates is not None:
            yield (name,), float(updates)


def head_states(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Every state of each head that has one: 1 for the present one, else 0."""
    for name, reading in snapshot.tamiyo.readings.items():
        if reading.state is not None:
            for state in HeadState:
                yield (name, state.value), float(state is reading.state)


def thresholds(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The ratios of both levels of each head."""
    for head in snapshot.tamiyo.heads:
        for word, threshold in zip(head.thresholds._fields, head.thresholds, strict=True):
            yield (head.name, word), threshold


def low_streaks(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The streak at each threshold of each head that has had a ratio."""
    for name, reading in snapshot.tamiyo.readings.items():
        warning, critical = reading.thresholds
        streaks = {critical: reading.critical_streak, warning: reading.warning_streak}
        for threshold, streak in streaks.items():
            if threshold and streak is not None:
                yield (name, f"{threshold:g}"), float(streak)


def action_shares(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The mean probability of each action, of heads with few."""
    for head in snapshot.tamiyo.heads:
        if head.choices <= SHOWN_ACTIONS:
            for index, share in enumerate(snapshot.tamiyo.readings[head.name].action_shares):
                yield (head.name, head.action_name(index)), share


def conditions(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The time since which each condition of a head holds."""
    for name, reading in snapshot.tamiyo.readings.items():
        for condition, since in reading.conditions:
            yield (name, condition.value), since


def effective_histograms(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """The effective ratios of each head."""
    for name, reading in snapshot.tamiyo.readings.items():
        yield (name,), reading.effective_histogram


def run_states(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """Every state that a run can have: 1 for the present one, else 0."""
    for state in RunState:
        yield (state.value,), float(state is snapshot.run_state)


def run_info(snapshot: SanctumSnapshot) -> Iterator[Sample]:
    """What describes the run, as labels."""
    run = snapshot.run
    yield (run.experiment, run.algorithm, run.environment, run.seed, run.device, str(run.world_size)), 1.0
