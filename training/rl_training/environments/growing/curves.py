"""Along which curve alpha moves, and what the actions of the alpha heads stand for. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

from rl_training.action_space import AlphaCurve, AlphaSpeed, AlphaTarget, Tempo

TEMPO_STEPS = MappingProxyType({Tempo.FAST: 3, Tempo.STANDARD: 5, Tempo.SLOW: 8})
"""Steps of training, and then of blending."""

SPEED_STEPS = MappingProxyType(
    {AlphaSpeed.INSTANT: 0, AlphaSpeed.FAST: 3, AlphaSpeed.MEDIUM: 5, AlphaSpeed.SLOW: 8}
)
"""Steps that alpha takes to its target."""

ALPHA_TARGETS = MappingProxyType({AlphaTarget.HALF: 0.5, AlphaTarget.SEVENTY: 0.7, AlphaTarget.FULL: 1.0})

STEEPNESS = MappingProxyType(
    {AlphaCurve.SIGMOID_GENTLE: 6.0, AlphaCurve.SIGMOID: 12.0, AlphaCurve.SIGMOID_SHARP: 24.0}
)
"""Steepness of the sigmoid curves at their middle."""


def progress(curve: AlphaCurve, share: float) -> float:
    """How far alpha has come after ``share`` of its time: rises from exactly 0 at 0 to exactly 1 at 1."""
    if share <= 0.0 or share >= 1.0:
        return min(max(share, 0.0), 1.0)
    if curve is AlphaCurve.LINEAR:
        return share
    if curve is AlphaCurve.COSINE:
        return (1 - math.cos(math.pi * share)) / 2
    edge = _sigmoid(-STEEPNESS[curve] / 2)
    return (_sigmoid(STEEPNESS[curve] * (share - 0.5)) - edge) / (1 - 2 * edge)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@dataclass(frozen=True, slots=True)
class Ramp:
    """A move of alpha from ``start`` to ``target`` in ``steps`` steps, of which ``elapsed`` have passed."""

    start: float = 0.0
    target: float = 0.0
    steps: int = 0
    curve: AlphaCurve = AlphaCurve.LINEAR
    elapsed: int = 0

    @property
    def done(self) -> bool:
        """Whether the target is reached; a way of no length is."""
        return self.elapsed >= self.steps or self.start == self.target

    @property
    def under_way(self) -> bool:
        """Whether alpha moves: after the first step and before the last."""
        return self.elapsed > 0 and not self.done

    @property
    def alpha(self) -> float:
        """Alpha now; exactly the target once done."""
        if self.done:
            return self.target
        share = progress(self.curve, self.elapsed / self.steps)
        return self.start + (self.target - self.start) * share

    def after_a_step(self) -> Ramp:
        """The ramp one step later."""
        return replace(self, elapsed=self.elapsed + 1)


NO_RAMP = Ramp()
"""Alpha at 0 and staying there."""
