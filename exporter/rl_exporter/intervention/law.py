"""The control law of one head: from its effective ratio to what its entropy coefficient needs on top."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Gains:
    """How strongly the law answers; docs/intervention.md holds the experiments that chose the defaults.

    The error is the target less the effective ratio. ``proportional`` and ``integral`` are nats of coefficient
    for an error of 1; the integral sums at every update. ``decay`` takes the place of ``integral`` where the
    ratio is above the target. ``most`` bounds what is added to the coefficient, ``slew`` how far it moves from
    one update to the next. ``anneal`` is the factor on target and integral at every update at which the head
    decides by the state. ``patience``: updates in a row, low and blind, before the law acts.

    Raises ValueError for gains that are impossible.
    """

    proportional: float = 1.0
    integral: float = 0.2
    decay: float = 0.1
    most: float = 1.0
    slew: float = 0.5
    anneal: float = 0.8
    patience: int = 2

    def __post_init__(self) -> None:
        for gain in fields(self):
            value = getattr(self, gain.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"gain {gain.name} is {value!r}; give a finite number >= 0")
        if not self.most or not self.slew or not 0.0 < self.anneal < 1.0:
            raise ValueError(f"{self}: give most and slew above 0, and anneal between 0 and 1")


DEFAULT_GAINS = Gains()

NOTHING = 1e-3
"""Nats of coefficient that are not worth adding to a head that decides by the state."""


@dataclass(frozen=True, slots=True)
class HeadControl:
    """What the law remembers of one head between two updates.

    ``integral`` and ``added`` are nats of coefficient; the next update gets ``added`` on top. ``share`` of the
    declared target holds at present. ``low`` and ``saturated`` count updates in a row at which the head was low
    and blind, and at which it needed the bound or more; ``raised`` and ``released`` all updates that moved
    what the head got. ``seen``: effective ratios that the run had counted of the head when the law last
    answered one.
    """

    integral: float = 0.0
    added: float = 0.0
    share: float = 1.0
    low: int = 0
    saturated: int = 0
    raised: int = 0
    released: int = 0
    seen: int = 0


def answer(
    control: HeadControl, gains: Gains, target: float, ratio: float, seen: int, *, blind: bool
) -> HeadControl:
    """The control after one more effective ratio of the head, the ``seen``-th.

    A head that decides by the state is left alone: its target anneals, and what was added goes with it.
    """
    share = min(1.0, control.share / gains.anneal) if blind else control.share * gains.anneal
    error = share * target - ratio
    low = control.low + 1 if blind and error > 0.0 else 0
    integral, wanted = 0.0, 0.0
    if control.added > 0.0 or low >= gains.patience:
        integral = _integral(control.integral, error, gains, blind=blind)
        # Whatever piled up meanwhile, only a head that is low and blind gets more than it has.
        wanted = min(integral + gains.proportional * error, gains.most) if low else min(integral, control.added)
    step = min(max(wanted - control.added, -gains.slew), gains.slew)
    added = min(max(control.added + step, 0.0), gains.most)
    return HeadControl(
        integral=integral,
        added=added,
        share=share,
        low=low,
        saturated=control.saturated + 1 if low and wanted >= gains.most else 0,
        raised=control.raised + (added > control.added),
        released=control.released + (added < control.added),
        seen=seen,
    )


def _integral(integral: float, error: float, gains: Gains, *, blind: bool) -> float:
    """The sum of the errors. The bound holds it, too, so that it never winds up beyond what it may add."""
    if not blind:
        left = integral * gains.anneal
        return left if left > NOTHING else 0.0
    total = integral + (gains.integral if error > 0.0 else gains.decay) * error
    return min(max(total, 0.0), gains.most)
