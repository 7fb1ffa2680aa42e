"""What a measurement may hold: rounding is clamped, the impossible dropped and counted, nothing raised."""

from __future__ import annotations

import math
from typing import Any

from rl_exporter.heads import Head, within
from rl_exporter.payload import HeadMeasurement

_BOUNDS = (
    ("choice_entropy", 1.0),
    ("choice_share", 1.0),
    ("open_share", 1.0),
    ("gradient_norm", math.inf),
    ("importance_ratio_max", math.inf),
)


def check(head: Head, measured: HeadMeasurement) -> tuple[HeadMeasurement, int]:
    """The possible values of a measurement, and how many lay beyond their bounds.

    A value that is not finite is no error here: it counts as one more NaN or infinity of the head.
    """
    entropy, choice, share, opened, gradient, ratio_max, _, _, _, _ = measured
    if (
        (entropy is None or 0.0 <= entropy <= head.max_entropy)
        and (choice is None or 0.0 <= choice <= 1.0)
        and (share is None or 0.0 <= share <= 1.0)
        and (opened is None or 0.0 <= opened <= 1.0)
        and (gradient is None or 0.0 <= gradient < math.inf)
        and (ratio_max is None or 0.0 <= ratio_max < math.inf)
    ):
        return measured, 0
    return _cleaned(head, measured)


def _cleaned(head: Head, measured: HeadMeasurement) -> tuple[HeadMeasurement, int]:
    changed: dict[str, Any] = {}
    errors = 0
    for name, upper in (("entropy", head.max_entropy), *_BOUNDS):
        value = getattr(measured, name)
        if value is None:
            continue
        if math.isfinite(value):
            changed[name] = within(value, upper)
            errors += changed[name] is None
        else:
            changed[name] = None
            kind = "nan" if math.isnan(value) else "inf"
            counter = f"{kind}_gradients" if name == "gradient_norm" else f"{kind}_steps"
            changed[counter] = changed.get(counter, getattr(measured, counter)) + 1
    return measured._replace(**changed), errors
