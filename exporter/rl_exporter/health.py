"""Levels and states: the verdicts on a head. The only place that holds the project's thresholds."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Thresholds(NamedTuple):
    """A ratio at or below one of these has its level; 0 switches a level off."""

    warning: float = 0.5
    critical: float = 0.25


DEFAULT_THRESHOLDS = Thresholds()

START_THRESHOLDS = Thresholds(0.25, 0.1)
"""Of a head that is compared with its start instead of its maximum: learning costs it most of its entropy."""

BLIND_BELOW = 0.02
"""Nats of state information. A head below this does practically the same whatever it sees."""

BLIND_RATIO_BELOW = 0.1
"""State information relative to all that is uncertain about the action. A head below this hardly decides by the
state, however much there is to decide."""

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

    ``warning``, ``critical``: effective ratio at or below the head's threshold. ``low``, ``collapsed``: the
    same, and the head is blind to the state. ``settled``: critical, but the head decides by the state.
    ``dead``, ``exploding``: the state of the head. ``starved``: open steps, but no choice step. ``idle``: no
    effective ratio. ``unmeasured``: no entropy.
    """

    WARNING = "warning"
    CRITICAL = "critical"
    LOW = "low"
    COLLAPSED = "collapsed"
    SETTLED = "settled"
    DEAD = "dead"
    EXPLODING = "exploding"
    STARVED = "starved"
    IDLE = "idle"
    UNMEASURED = "unmeasured"


def level(ratio: float | None, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> Level | None:
    """Level of an entropy ratio, or None if it is absent or NaN.

    A ratio equal to a threshold has the worse level: by default 0.5 is a warning, 0.25 is critical.
    """
    if ratio is None or ratio != ratio:  # noqa: PLR0124 - NaN is the one value unequal to itself
        return None
    if at_or_below(ratio, thresholds.critical):
        return Level.CRITICAL
    return Level.WARNING if at_or_below(ratio, thresholds.warning) else Level.HEALTHY


def at_or_below(ratio: float, threshold: float) -> bool:
    """Whether a threshold, unless it is switched off, marks a ratio as low."""
    return 0.0 < threshold >= ratio


def is_blind(state_information: float | None, ratio: float | None = None) -> bool:
    """Whether a head takes no notice of the state, as far as is known.

    A converged head and a collapsed one both have low entropy; this is what tells them apart.
    ``state_information`` in nats; unknown, it counts as blind, because a page too many is better than a
    collapse that nobody hears of. ``ratio``: its share of what is uncertain about the action; unknown, the
    nats decide.
    """
    if state_information is None or not state_information >= BLIND_BELOW:
        return True
    return ratio is not None and not ratio >= BLIND_RATIO_BELOW


def head_state(
    ratio: float | None,
    gradient_norm: float | None = None,
    gradients_finite: bool = True,
    had_choice: bool | None = None,
    *,
    blind: bool = True,
    nearly_uniform: bool | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> HeadState | None:
    """State of a head after an update: the first that applies, or None without information.

    ``ratio``: effective ratio. ``gradient_norm``: of the head's own parameters, before clipping; None if not
    reported. ``had_choice``: whether the head had a choice step; None if not reported. ``nearly_uniform``:
    whether its distributions are close to uniform; by default the ratio says so.
    """
    if not gradients_finite or (gradient_norm is not None and gradient_norm > EXPLODING_ABOVE):
        return HeadState.EXPLODING
    if ratio is None:
        return HeadState.DETERMINISTIC if had_choice is False else None
    vanishing = gradient_norm is not None and gradient_norm < VANISHING_BELOW
    if ratio < DETERMINISTIC_BELOW:
        # Who switches the critical level off says that the head may be constant: that is no death.
        dead = vanishing and blind and thresholds.critical > 0.0
        return HeadState.DEAD if dead else HeadState.DETERMINISTIC
    if ratio > CONFUSED_ABOVE if nearly_uniform is None else nearly_uniform:
        return HeadState.CONFUSED
    return HeadState.UNSETTLED if at_or_below(ratio, thresholds.warning) or vanishing else HeadState.HEALTHY
