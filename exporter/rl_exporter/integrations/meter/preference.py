"""State information: how much better the state explains the decisions of a head than one fixed preference does.

A preference is one weight per action, the same in every state; under a mask it is restricted to the valid
actions. The best one minimizes the mean KL divergence of the distributions of the head from it; that minimum is
the state information. Without masks the weights start at their optimum, the mean of π. A minorize-maximize step
under masks m is w_a <- Σ_t π_t(a) / Σ_t [m_t(a) / Σ_b m_t(b) w_b].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.decisions import MINORIZE_STEPS, MINORIZE_STEPS_ALONE, NEWTON_CHOICES, NEWTON_STEPS
from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.equations import equations_of
from rl_exporter.integrations.meter.exchange import Exchange
from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.newton import (
    newton_step,
)
from rl_exporter.integrations.meter.sums import Preferences


class ChoiceSteps(NamedTuple):
    """S steps on one rank. At a step at which a head decided nothing, its numbers are all 0."""

    probabilities: Tensor
    """(Σn, S) under the decision masks."""
    valid: Tensor
    """(Σn, S) 1 where an action was valid at a choice step of its head, in the same dtype."""
    entropy: Tensor
    """(H, S) nats"""


def no_choice_steps(layout: HeadLayout) -> ChoiceSteps:
    """The choice steps of an update without a whole epoch."""
    heads, device = len(layout.sizes), layout.segment.device
    return ChoiceSteps(*(torch.zeros(rows, 0, device=device) for rows in (layout.total, layout.total, heads)))


def fit_preferences(
    steps: Callable[[], ChoiceSteps],
    layout: HeadLayout,
    ranks: Exchange,
    attempt: Attempt,
    device: torch.device,
) -> Preferences[Tensor] | None:
    """The best preferences over the choice steps of all ranks; None where ``attempt`` failed.

    Exchanges equally often on every path. Raises what the exchange raises.
    """
    fit = _Fit(layout)
    zeros = partial(torch.zeros, layout.total, dtype=exact_dtype(device), device=device)
    totals = attempt.part(lambda: fit.begin(steps()), lambda: torch.stack([zeros(), zeros()]))
    ranks.all_reduce([totals])
    probability, valid = totals
    weights = probability / valid.clamp_min(1.0)
    newton = layout.width <= NEWTON_CHOICES
    for _ in range(MINORIZE_STEPS if newton else MINORIZE_STEPS_ALONE):
        denominators = attempt.part(partial(fit.denominators, weights), zeros)
        ranks.all_reduce([denominators])
        # An action that was never valid has neither probability nor denominator.
        weights = probability / denominators.clamp_min_(torch.finfo(denominators.dtype).tiny)
    if newton:
        weights = _newton_steps(fit, weights, probability, ranks, attempt)
    log_normalizer = attempt.part(partial(fit.log_normalizer, weights), zeros)
    if attempt.failure is not None:
        return None
    return Preferences(fit.own_probability, fit.entropy, log_normalizer, weights)


def _newton_steps(fit: _Fit, weights: Tensor, probability: Tensor, ranks: Exchange, attempt: Attempt) -> Tensor:
    """The weights after Newton's steps, the same on every rank."""
    equations = fit.equations
    rows, own = equations.rows(weights), equations.rows(probability)
    for _ in range(NEWTON_STEPS):
        sums = attempt.part(partial(fit.newton_sums, rows), partial(equations.no_sums, weights.device))
        ranks.all_reduce([sums])
        rows = newton_step(rows, own, sums)
    return equations.flat(rows)


class _Fit:
    """One rank's part of the fit.

    A matrix with the weights of each head in its own row serves all heads in one product.
    """

    def __init__(self, layout: HeadLayout) -> None:
        self._layout = layout
        self.equations = equations_of(layout)

    def begin(self, steps: ChoiceSteps) -> Tensor:
        """(2, Σn): sums of the probabilities, and steps at which each action was valid."""
        self._valid = steps.valid
        self._own = self._layout.members.to(steps.valid.dtype)
        # Where a head decided nothing, its normalizer is 1 instead of 0.
        self._idle = (self._own @ self._valid).neg_().add_(1.0).clamp_min_(0.0)
        # A copy: the exchange adds those of the other ranks to the returned one.
        exact = exact_dtype(steps.valid.device)
        self.own_probability = steps.probabilities.sum(1, dtype=exact)
        self.entropy = steps.entropy.sum(1, dtype=exact)
        return torch.stack([self.own_probability, steps.valid.sum(1, dtype=exact)])

    def denominators(self, weights: Tensor) -> Tensor:
        """(Σn,): for each action, the sum of 1 / Σ_b m(b) w_b over the steps at which it was valid."""
        shares = torch.addmm(self._idle, self._rows(weights), self._valid).reciprocal_()
        return self._layout.spread(shares).mul_(self._valid).sum(1).to(weights.dtype)

    def _rows(self, weights: Tensor) -> Tensor:
        return self._own * weights.to(self._own.dtype)

    def newton_sums(self, weights: Tensor) -> Tensor:
        """See ``rl_exporter.integrations.meter.newton``."""
        return self.equations.sums(weights, self._valid, self._idle)

    def log_normalizer(self, weights: Tensor) -> Tensor:
        """(H,): sum of ln Σ_b m(b) w_b over the choice steps; a difference follows, so in double precision."""
        normalizer = torch.addmm(self._idle, self._rows(weights), self._valid)
        return normalizer.to(weights.dtype).log_().sum(1)
