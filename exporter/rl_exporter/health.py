"""Levels and states: the verdicts on a head. The only place that holds the project's thresholds."""

from __future__ import annotations

from enum import StrEnum

WARNING_THRESHOLD = 0.5
"""A ratio at or below this is a warning."""

CRITICAL_THRESHOLD = 0.25
"""A ratio at or below this is critical."""

DETERMINISTIC_BELOW = 0.1
"""Below this effective ratio a head practically no longer explores."""

CONFUSED_ABOVE = 0.9
"""Above this effective ratio a head is still close to uniform."""

EXPLODING_ABOVE = 5.0
"""Above this gradient norm, before clipping, a head's gradients explode."""

VANISHING_BELOW = 0.01
"""Below this gradient norm a head no longer learns."""

SUSTAINED_UPDATES = 3
"""A condition counts once it has held for this many updates: a single bad update is no alarm."""


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
    """A situation of a head that can last for several updates.

    ``warning``, ``critical``: effective ratio at or below the threshold. ``dead``, ``exploding``: the state.
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
    """Level of an entropy ratio in [0, 1], or None if it is absent or NaN.

    A ratio equal to a threshold has the worse level: 0.5 is a warning, 0.25 is critical.
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
    """State of a head after an update: the first that applies, or None without information.

    ``ratio``: effective ratio in [0, 1]. ``gradient_norm``: of the head's own parameters, before clipping; None
    if not reported. ``had_choice``: whether the head had a choice step; None if not reported.
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
