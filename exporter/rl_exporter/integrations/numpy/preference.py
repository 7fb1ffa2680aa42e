"""State information: the best preference of each head, by the same steps as ``meter.preference``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from rl_exporter.decisions import (
    MINORIZE_STEPS,
    MINORIZE_STEPS_ALONE,
    NEWTON_CHOICES,
    NEWTON_DAMPING,
    NEWTON_LARGEST_STEP,
    NEWTON_STEPS,
)
from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.sums import FloatArray, Preferences
from rl_exporter.integrations.numpy.exchange import Exchange
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.minibatch import ChoiceSteps

_TINY = float(np.finfo(np.float64).tiny)


def fit_preferences(
    steps: Callable[[], ChoiceSteps], layout: HeadLayout, exchange: Exchange, attempt: Attempt
) -> Preferences[FloatArray] | None:
    """The best preferences over the choice steps of all processes; None where ``attempt`` failed.

    Exchanges equally often on every path. Raises what the exchange raises.
    """
    fit, zeros = _Fit(layout), partial(np.zeros, layout.total)
    totals = attempt.part(lambda: fit.begin(steps()), lambda: np.zeros((2, layout.total)))
    probability, valid = exchange.sum(totals)
    weights = probability / np.maximum(valid, 1.0)
    newton = layout.width <= NEWTON_CHOICES
    for _ in range(MINORIZE_STEPS if newton else MINORIZE_STEPS_ALONE):
        denominators = exchange.sum(attempt.part(partial(fit.denominators, weights), zeros))
        # An action that was never valid has neither probability nor denominator.
        weights = probability / np.maximum(denominators, _TINY)
    for _ in range(NEWTON_STEPS if newton else 0):
        sums = exchange.sum(attempt.part(partial(fit.newton_sums, weights), fit.no_newton_sums))
        weights = _newton_step(weights, probability, sums, layout)
    log_normalizer = attempt.part(partial(fit.log_normalizer, weights), zeros)
    if attempt.failure is not None:
        return None
    return Preferences(fit.own_probability, fit.entropy, log_normalizer, weights)


class _Fit:
    """One process's part of the fit."""

    def __init__(self, layout: HeadLayout) -> None:
        self._layout = layout

    def begin(self, steps: ChoiceSteps) -> FloatArray:
        """(2, Σn): sums of the probabilities, and steps at which each action was valid."""
        self._valid = steps.valid
        # Where a head decided nothing, its normalizer is 1 instead of 0.
        self._idle = 1.0 - np.minimum(steps.valid @ self._layout.members, 1.0)
        self.own_probability: FloatArray = steps.probabilities.sum(0)
        self.entropy: FloatArray = steps.entropy.sum(0)
        return np.stack([self.own_probability, steps.valid.sum(0)])

    def denominators(self, weights: FloatArray) -> FloatArray:
        """(Σn,): for each action, the sum of 1 / Σ_b m(b) w_b over the steps at which it was valid."""
        by_head = self._valid.T @ (1.0 / self._normalizer(weights))
        found: FloatArray = by_head[np.arange(self._layout.total), self._layout.segment]
        return found

    def newton_sums(self, weights: FloatArray) -> FloatArray:
        """Of each head (n, n), flat and one after the other: see ``meter.newton.newton_sums``."""
        shares = self._valid * weights / self._layout.spread(self._normalizer(weights))
        parts = (shares[:, own] for own in self._layout.slices)
        return np.concatenate([(own.T @ own).ravel() for own in parts])

    def no_newton_sums(self) -> FloatArray:
        """What a process adds that has no numbers."""
        return np.zeros(sum(size * size for size in self._layout.sizes))

    def log_normalizer(self, weights: FloatArray) -> FloatArray:
        """(H,): sum of ln Σ_b m(b) w_b over the choice steps."""
        total: FloatArray = np.log(self._normalizer(weights)).sum(0)
        return total

    def _normalizer(self, weights: FloatArray) -> FloatArray:
        """(S, H)"""
        total: FloatArray = self._valid @ (self._layout.members * weights[:, None]) + self._idle
        return total


def _newton_step(
    weights: FloatArray, probability: FloatArray, sums: FloatArray, layout: HeadLayout
) -> FloatArray:
    """The weights (Σn,) after one damped Newton's step; ``sums`` are those over all processes."""
    moved, start = np.empty_like(weights), 0
    for own, size in zip(layout.slices, layout.sizes, strict=True):
        stop = start + size * size
        moved[own] = _moved(weights[own], probability[own], sums[start:stop].reshape(size, size))
        start = stop
    return moved


def _moved(weights: FloatArray, own: FloatArray, pairs: FloatArray) -> FloatArray:
    # The shares of a choice step sum to 1, so these are the expected counts.
    expected = pairs.sum(1)
    # An action that was never valid, or has no weight left, stays where it is.
    curvature = np.where(expected > 0, expected * (1.0 + NEWTON_DAMPING), 1.0)
    try:
        step = np.linalg.solve(np.diag(curvature) - pairs, own - expected)
    except np.linalg.LinAlgError:
        return weights
    limited = np.clip(np.nan_to_num(step, posinf=0.0, neginf=0.0), -NEWTON_LARGEST_STEP, NEWTON_LARGEST_STEP)
    # Only ratios of weights matter, so nothing makes them sum to 1.
    moved: FloatArray = weights * np.exp(limited)
    return moved


def wide_preferences(
    own: ChoiceSteps, layout: HeadLayout, exchange: Exchange, attempt: Attempt
) -> Preferences[FloatArray] | None:
    """The mean distributions of wide heads, from sums over their steps: the best where nothing is masked."""
    probability, entropy = own.probabilities.sum(0), own.entropy.sum(0)
    totals = exchange.sum(attempt.part(lambda: probability, lambda: np.zeros(layout.total)))
    if attempt.failure is not None:
        return None
    weights = totals / layout.spread(np.maximum(layout.sums(totals), _TINY))
    return Preferences(probability, entropy, np.zeros(len(layout.sizes)), weights)
