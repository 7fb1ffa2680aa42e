"""Which measurements are possible; what is not is dropped and counted before anything is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from rl_exporter.heads import Head, within
from rl_exporter.numbers import (
    Attribute,
    DurationNumbers,
    HeadNumbers,
    PolicyNumbers,
    TrainingNumbers,
    attributes,
)
from rl_exporter.payload import HeadMeasurement, PPOUpdatePayload

_HEAD = attributes(HeadNumbers)
_HEAD_VALUES = attrgetter(*(number.name for number in _HEAD))
_SHARES_LEAST, _SHARES_MOST = 0.99, 1.01

_RUN = tuple(
    number for owner in (PolicyNumbers, TrainingNumbers, DurationNumbers) for number in attributes(owner)
)
GAUGES = tuple(number for number in _RUN if number.row.kind == "gauge")
COUNTS = tuple(number for number in _RUN if number.row.kind == "counter")
DURATIONS = tuple(number for number in _RUN if number.row.kind == "histogram")
_RUN = (*GAUGES, *COUNTS, *DURATIONS)
_RUN_VALUES = attrgetter(*(number.name for number in _RUN))
_RUN_LEAST, _RUN_MOST = zip(*(number.row.bounds() for number in _RUN), strict=True)
_COUNT_VALUES = attrgetter(*(number.name for number in COUNTS))


class Dropped(NamedTuple):
    """A value that is not kept, and why. ``head`` is empty for a number of the run."""

    head: str
    field: str
    """The argument of ``record``."""
    is_error: bool
    """Whether it counts as a record error. A value that is not finite has its own counter."""
    why: str

    def __str__(self) -> str:
        return f"{f'head {self.head!r}: ' if self.head else ''}{self.field} {self.why}"


class HeadValidity:
    """Checks the measurements of one head against the bounds of its numbers."""

    __slots__ = ("_bounds", "_choices", "_least", "_most", "_name")

    def __init__(self, head: Head) -> None:
        self._name = head.name
        self._bounds = tuple(number.row.bounds(head.max_entropy) for number in _HEAD)
        self._least, self._most = zip(*self._bounds, strict=True)
        self._choices = head.choices

    def check(self, measured: HeadMeasurement) -> tuple[HeadMeasurement, Sequence[Dropped]]:
        """Drop impossible values from a measurement.

        A value that is not finite is no error: it counts as one more NaN or infinity of the head. Raises
        TypeError for what is no number.
        """
        dropped: Sequence[Dropped] = ()
        for value, least, most in zip(_HEAD_VALUES(measured), self._least, self._most, strict=True):
            if value is not None and not least <= value <= most:  # NaN fails the comparison, too
                measured, dropped = self._cleaned(measured)
                break
        shares = measured.action_shares
        if shares is not None and not self.are_shares(shares):
            measured = replace(measured, action_shares=None)
            why = f"are {_shown(shares)}; give the mean probability of each of the {self._choices} actions"
            dropped = (*dropped, Dropped(self._name, "action_shares", True, why))
        return measured, dropped

    def _cleaned(self, measured: HeadMeasurement) -> tuple[HeadMeasurement, Sequence[Dropped]]:
        changed: dict[str, Any] = {}
        dropped = []
        for number, (least, most) in zip(_HEAD, self._bounds, strict=True):
            value = getattr(measured, number.name)
            if value is None:
                continue
            changed[number.name], why = _kept(value, least, most, number)
            if why:
                finite = _is_finite(value)
                dropped.append(Dropped(self._name, _field(number), finite, why))
                if not finite:
                    kind = "nan" if math.isnan(value) else "inf"
                    counter = f"{kind}_gradients" if number.name == "gradient_norm" else f"{kind}_steps"
                    changed[counter] = changed.get(counter, getattr(measured, counter)) + 1
        return replace(measured, **changed), dropped

    def are_shares(self, shares: Sequence[float]) -> bool:
        """Whether these can be mean probabilities of all actions of the head."""
        # float16 sums of many small probabilities are this far from 1.
        # A NaN makes the sum NaN, and so fails the comparison.
        return (
            len(shares) == self._choices and min(shares) >= 0.0 and _SHARES_LEAST <= sum(shares) <= _SHARES_MOST
        )


class HeadsValidity:
    """Checks the measurements of all heads of a policy."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._each = [HeadValidity(head) for head in heads]
        bounds = [number.row.bounds(head.max_entropy) for head in heads for number in _HEAD]
        self._least, self._most = zip(*bounds, strict=True)

    def check(self, measured: Sequence[HeadMeasurement]) -> tuple[Sequence[HeadMeasurement], Sequence[Dropped]]:
        """Drop impossible values from one measurement of each head: see ``HeadValidity.check``."""
        if self._all_possible(measured):
            return measured, ()
        kept, dropped = zip(
            *(one.check(of_head) for one, of_head in zip(self._each, measured, strict=True)), strict=True
        )
        return kept, tuple(chain.from_iterable(dropped))

    def _all_possible(self, measured: Sequence[HeadMeasurement]) -> bool:
        """Whether there is nothing to drop, in less time than one head after the other takes."""
        values = chain.from_iterable(map(_HEAD_VALUES, measured))
        for value, least, most in zip(values, self._least, self._most, strict=True):
            if value is not None and not least <= value <= most:  # NaN fails the comparison, too
                return False
        for one, of_head in zip(self._each, measured, strict=True):
            if of_head.action_shares is not None and not one.are_shares(of_head.action_shares):
                return False
        return True


def check_run(payload: PPOUpdatePayload) -> tuple[Sequence[Any], Sequence[Dropped]]:
    """The numbers of the run in the order of GAUGES, COUNTS, DURATIONS, None for what is impossible.

    Counts are whole numbers, 0 where they are impossible. Raises TypeError for what is no number.
    """
    given: tuple[Any, ...] = _RUN_VALUES(payload)
    for value, least, most in zip(given, _RUN_LEAST, _RUN_MOST, strict=True):
        if value is not None and not least <= value <= most:
            return _cleaned_run(given)
    for count in _COUNT_VALUES(payload):
        if type(count) is not int:
            return _cleaned_run(given)
    return given, ()


def _cleaned_run(given: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Dropped]]:
    kept: list[Any] = []
    dropped = []
    for number, value, least, most in zip(_RUN, given, _RUN_LEAST, _RUN_MOST, strict=True):
        possible, why = (None, "") if value is None else _kept(value, least, most, number)
        if why:
            dropped.append(Dropped("", _field(number), _is_finite(value), why))
        kept.append(int(possible or 0) if number.whole else possible)
    return kept, dropped


def _kept(value: Any, least: float, most: float, number: Attribute) -> tuple[Any, str]:
    """The value without what rounding added, or None and why it is dropped."""
    if not _is_finite(value):
        return None, f"{value} is not finite"
    if number.whole and value != math.floor(value):
        return None, f"{value} is no whole number"
    possible = within(value, most, least)
    if possible is not None:
        return possible, ""
    side, bound = ("above", most) if value > most else ("below", least)
    return None, f"{_text(value)} is {side} {bound}, the {'largest' if value > most else 'least'} possible"


def _text(value: Any) -> str:
    try:
        return str(value)[:40]
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return f"a whole number of {value.bit_length()} bits"


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return True


def _field(number: Attribute) -> str:
    return number.row.argument or number.name


def _shown(shares: Sequence[float]) -> str:
    text = ", ".join(f"{share:.3g}" for share in shares[:6])
    return f"{len(shares)} numbers, {text}{', …' if len(shares) > 6 else ''}, of sum {sum(shares):.4g}"
