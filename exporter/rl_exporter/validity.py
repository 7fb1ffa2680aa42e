"""Which measurements of a head are possible; what is not is dropped and counted before anything is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from rl_exporter.heads import Head, within
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement

_ROWS = tuple(number.row for number in attributes(HeadNumbers))
_NAMES = tuple(number.name for number in attributes(HeadNumbers))
_VALUES = attrgetter(*_NAMES)
_SHARE_TOLERANCE = 0.01


class HeadValidity:
    """Checks the measurements of one head against the bounds of its numbers."""

    __slots__ = ("_bounds", "_choices")

    def __init__(self, head: Head) -> None:
        self._bounds = tuple(row.bounds(head.max_entropy) for row in _ROWS)
        self._choices = head.choices

    def check(self, measured: HeadMeasurement) -> tuple[HeadMeasurement, int]:
        """Drop impossible values from a measurement, and count those outside their bounds.

        A value that is not finite is no error: it counts as one more NaN or infinity of the head.
        """
        errors = 0
        for value, (least, most) in zip(_VALUES(measured), self._bounds, strict=True):
            if value is not None and not least <= value <= most:  # NaN fails the comparison, too
                measured, errors = self._cleaned(measured)
                break
        if measured.action_shares is not None and not self._are_shares(measured.action_shares):
            measured, errors = replace(measured, action_shares=None), errors + 1
        return measured, errors

    def _cleaned(self, measured: HeadMeasurement) -> tuple[HeadMeasurement, int]:
        changed: dict[str, Any] = {}
        errors = 0
        for name, (least, most) in zip(_NAMES, self._bounds, strict=True):
            value = getattr(measured, name)
            if value is None:
                continue
            if math.isfinite(value):
                changed[name] = within(value, most, least)
                errors += changed[name] is None
            else:
                changed[name] = None
                kind = "nan" if math.isnan(value) else "inf"
                counter = f"{kind}_gradients" if name == "gradient_norm" else f"{kind}_steps"
                changed[counter] = changed.get(counter, getattr(measured, counter)) + 1
        return replace(measured, **changed), errors

    def _are_shares(self, shares: Sequence[float]) -> bool:
        """Whether these can be mean probabilities of all actions of the head."""
        # float16 sums of many small probabilities are this far from 1.
        # A NaN makes the sum NaN, and so fails the comparison.
        return (
            len(shares) == self._choices and min(shares) >= 0.0 and abs(sum(shares) - 1.0) <= _SHARE_TOLERANCE
        )
