"""The curves along which alpha moves, and the numbers that the actions of tempo and alpha heads mean. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

from rl_training.action_space import AlphaCurve, AlphaSpeed, AlphaTarget, Tempo

TEMPO_STEPS = MappingProxyType({Tempo.FAST: 3, Tempo.STANDARD: 5, Tempo.SLOW: 8})
"""Steps that a module trains, and then again that it blends."""

SPEED_STEPS = MappingProxyType(
    {AlphaSpeed.INSTANT: 0, AlphaSpeed.FAST: 3, AlphaSpeed.MEDIUM: 5, AlphaSpeed.SLOW: 8}
)
"""Steps in which alpha reaches its target."""

ALPHA_TARGETS = MappingProxyType({AlphaTarget.HALF: 0.5, AlphaTarget.SEVENTY: 0.7, AlphaTarget.FULL: 1.0})

STEEPNESS = MappingProxyType(
    {AlphaCurve.SIGMOID_GENTLE: 6.0, AlphaCurve.SIGMOID: 12.0, AlphaCurve.SIGMOID_SHARP: 24.0}
)
"""Steepness of the logistic function behind each sigmoid curve."""


def progress(curve: AlphaCurve, share: float) -> float:
    """Share of its way that alpha has covered after ``share`` of its time, from exactly 0 to exactly 1."""
    if share <= 0.0 or share >= 1.0:
        return min(max(share, 0.0), 1.0)
    if curve is AlphaCurve.LINEAR:
        return share
    if curve is AlphaCurve.COSINE:
        return (1 - math.cos(math.pi * share)) / 2
    # A logistic function never reaches 0 or 1; rescaling makes the ends exact.
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
        """Whether alpha has reached the target, as it has at once where start and target are the same."""
        return self.elapsed >= self.steps or self.start == self.target

    @property
    def under_way(self) -> bool:
        """Whether alpha is moving: after the first step and before the last."""
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
"""Alpha stays at 0."""
