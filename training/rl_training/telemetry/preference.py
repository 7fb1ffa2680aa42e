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

from rl_exporter.integrations.preference import (
    MINORIZE_STEPS,
    MINORIZE_STEPS_ALONE,
    NEWTON_CHOICES,
    NEWTON_STEPS,
    newton_step,
    newton_sums,
)
from rl_training.policy.distributions import HeadLayout
from rl_training.ranks import Ranks

_TINY = torch.finfo(torch.float64).tiny


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


class Preferences(NamedTuple):
    """The best preference of each head, and what it and the head make of one rank's choice steps."""

    probability: Tensor
    """(Σn,) sum over the choice steps of the probability of each action."""
    entropy: Tensor
    """(H,) sum of the entropies, in nats."""
    log_normalizer: Tensor
    """(H,) sum of ln Σ_b m(b) w_b."""
    weights: Tensor
    """(Σn,) the same on every rank."""


class Attempt:
    """Computes the parts that one rank adds to sums over all ranks.

    After an error it gives zeros, because the other ranks still wait for a part in each exchange.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def part(self, compute: Callable[[], Tensor], otherwise: Callable[[], Tensor]) -> Tensor:
        """The result of ``compute``; after an error, in it or earlier, that of ``otherwise``."""
        if self.failure is None:
            try:
                return compute()
            except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self.failure = error
        return otherwise()


def fit_preferences(
    steps: Callable[[], ChoiceSteps], layout: HeadLayout, ranks: Ranks, attempt: Attempt, device: torch.device
) -> Preferences | None:
    """The best preferences over the choice steps of all ranks; None where ``attempt`` failed.

    Exchanges equally often on every path. Raises RankLostError.
    """
    fit = _Fit(layout)
    zeros = partial(torch.zeros, layout.total, dtype=torch.float64, device=device)
    totals = attempt.part(lambda: fit.begin(steps()), lambda: torch.stack([zeros(), zeros()]))
    ranks.all_reduce([totals])
    probability, valid = totals
    weights = probability / valid.clamp_min(1.0)
    newton = layout.width <= NEWTON_CHOICES
    for _ in range(MINORIZE_STEPS if newton else MINORIZE_STEPS_ALONE):
        denominators = attempt.part(partial(fit.denominators, weights), zeros)
        ranks.all_reduce([denominators])
        # An action that was never valid has neither probability nor denominator.
        weights = probability / denominators.clamp_min_(_TINY)
    for _ in range(NEWTON_STEPS if newton else 0):
        sums = attempt.part(partial(fit.newton_sums, weights), partial(fit.no_newton_sums, device))
        ranks.all_reduce([sums])
        weights = fit.newton_step(weights, probability, sums)
    log_normalizer = attempt.part(partial(fit.log_normalizer, weights), zeros)
    if attempt.failure is not None:
        return None
    return Preferences(fit.own_probability, fit.entropy, log_normalizer, weights)


class _Fit:
    """One rank's part of the fit.

    A matrix with the weights of each head in its own row serves all heads in one product.
    """

    def __init__(self, layout: HeadLayout) -> None:
        heads = torch.arange(len(layout.sizes), device=layout.segment.device)
        self._own = heads.unsqueeze(1) == layout.segment
        self._column = layout.segment.unsqueeze(1)
        self._layout = layout
        self._rectangle: Tensor | None = None

    def begin(self, steps: ChoiceSteps) -> Tensor:
        """(2, Σn): sums of the probabilities, and steps at which each action was valid."""
        self._valid = steps.valid
        self._own = self._own.to(steps.valid.dtype)
        # Where a head decided nothing, its normalizer is 1 instead of 0.
        self._idle = self._own.new_ones(steps.entropy.shape).sub_((self._own @ steps.valid).clamp_max_(1.0))
        # A copy: the exchange adds those of the other ranks to the returned one.
        self.own_probability = steps.probabilities.sum(1, dtype=torch.float64)
        self.entropy = steps.entropy.sum(1, dtype=torch.float64)
        return torch.stack([self.own_probability, steps.valid.sum(1, dtype=torch.float64)])

    def denominators(self, weights: Tensor) -> Tensor:
        """(Σn,): for each action, the sum of 1 / Σ_b m(b) w_b over the steps at which it was valid."""
        rows = self._own * weights.to(self._own.dtype)
        shares = torch.addmm(self._idle, rows, self._valid).reciprocal_()
        return (self._valid @ shares.T).gather(1, self._column).squeeze(1).double()

    def newton_sums(self, weights: Tensor) -> Tensor:
        """(H, width, 1 + width), see ``rl_exporter.integrations.preference``."""
        if self._rectangle is None:
            self._rectangle = self._layout.rectangle(self._valid).movedim(1, 0).contiguous()
        return newton_sums(self._rectangle, self._layout.rectangle(weights).T).double()

    def no_newton_sums(self, device: torch.device) -> Tensor:
        """What a rank adds that has no numbers."""
        heads, width = len(self._layout.sizes), self._layout.width
        return torch.zeros(heads, width, 1 + width, dtype=torch.float64, device=device)

    def newton_step(self, weights: Tensor, probability: Tensor, sums: Tensor) -> Tensor:
        """(Σn,): the weights after the step, the same on every rank."""
        rectangle = self._layout.rectangle
        return self._layout.columns(newton_step(rectangle(weights).T, rectangle(probability).T, sums).T)

    def log_normalizer(self, weights: Tensor) -> Tensor:
        """(H,): sum of ln Σ_b m(b) w_b over the choice steps; float64, because a difference follows."""
        rows = self._own * weights.double()
        return torch.addmm(self._idle.double(), rows, self._valid.double()).log_().sum(1)
