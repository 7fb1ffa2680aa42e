"""Levels and states: the verdicts on a head. The thresholds of the project live here, once."""

from __future__ import annotations

from enum import StrEnum

WARNING_THRESHOLD = 0.5
"""A ratio at or below this is a warning."""

CRITICAL_THRESHOLD = 0.25
"""A ratio at or below this is critical."""

DETERMINISTIC_BELOW = 0.1
"""An effective ratio below this leaves a head no exploration to speak of."""

CONFUSED_ABOVE = 0.9
"""An effective ratio above this is still close to uniform."""

EXPLODING_ABOVE = 5.0
"""A head's gradient norm above this, before clipping."""

VANISHING_BELOW = 0.01
"""A head's gradient norm below this teaches it nothing."""


SUSTAINED_UPDATES = 3
"""A condition is worth a word once it has held for as many updates."""


class Level(StrEnum):
    """How much of its possible entropy a head still has."""

    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class HeadState(StrEnum):
    """One word for a head, from its entropy and its gradients."""

    EXPLODING = "exploding"
    DEAD = "dead"
    DETERMINISTIC = "deterministic"
    CONFUSED = "confused"
    HEALTHY = "healthy"
    UNSETTLED = "unsettled"


class Condition(StrEnum):
    """What a head can be in for several updates.

    ``warning``, ``critical``: effective ratios at or below the threshold. ``dead``, ``exploding``: the state.
    ``starved``: open steps, but no choice step. ``idle``: no effective ratio. ``unmeasured``: no entropy.
    """

    WARNING = "warning"
    CRITICAL = "critical"
    DEAD = "dead"
    EXPLODING = "exploding"
    STARVED = "starved"
    IDLE = "idle"
    UNMEASURED = "unmeasured"


def level(ratio: float | None) -> Level | None:
    """Level of an entropy ratio in [0, 1]; None when it is absent or NaN.

    The boundaries belong to the worse side: 0.5 is a warning, 0.25 is critical.
    """
    if ratio is None or ratio != ratio:  # noqa: PLR0124 - NaN is the one value unequal to itself
        return None
    if ratio <= CRITICAL_THRESHOLD:
        return Level.CRITICAL
    return Level.WARNING if ratio <= WARNING_THRESHOLD else Level.HEALTHY


def head_state(
    ratio: float | None,
    gradient_norm: float | None = None,
    gradients_finite: bool = True,
    had_choice: bool | None = None,
) -> HeadState | None:
    """State of a head after an update, the first that fits; None when the update says nothing about it.

    ``ratio``: its effective ratio in [0, 1]. ``gradient_norm``: of its own parameters, before clipping,
    None where not reported. ``had_choice``: whether it had a choice step, None where not reported.
    """
    if not gradients_finite or (gradient_norm is not None and gradient_norm > EXPLODING_ABOVE):
        return HeadState.EXPLODING
    if ratio is None:
        return HeadState.DETERMINISTIC if had_choice is False else None
    vanishing = gradient_norm is not None and gradient_norm < VANISHING_BELOW
    if ratio < DETERMINISTIC_BELOW:
        return HeadState.DEAD if vanishing else HeadState.DETERMINISTIC
    if ratio > CONFUSED_ABOVE:
        return HeadState.CONFUSED
    return HeadState.UNSETTLED if ratio <= WARNING_THRESHOLD or vanishing else HeadState.HEALTHY
