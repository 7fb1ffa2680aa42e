"""Levels: the verdict on an entropy ratio. The thresholds of the project live here, once."""

from __future__ import annotations

from enum import StrEnum

WARNING_THRESHOLD = 0.5
"""A ratio at or below this is a warning."""

CRITICAL_THRESHOLD = 0.25
"""A ratio at or below this is critical."""


class Level(StrEnum):
    """How much of its possible entropy a head still has."""

    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


def level(ratio: float | None) -> Level | None:
    """Level of an entropy ratio in [0, 1]; None when it is absent or NaN.

    The boundaries belong to the worse side: 0.5 is a warning, 0.25 is critical.
    """
    if ratio is None or ratio != ratio:  # noqa: PLR0124 - NaN is the one value unequal to itself
        return None
    if ratio <= CRITICAL_THRESHOLD:
        return Level.CRITICAL
    return Level.WARNING if ratio <= WARNING_THRESHOLD else Level.HEALTHY
