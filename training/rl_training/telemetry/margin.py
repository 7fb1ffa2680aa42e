"""Advantage margin: whether a head is paid for what it mostly does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.distributions import HeadLayout
from rl_training.policy.rollout import Rollout

DECAY = 0.95
"""What an update leaves of the sums of those before it.

A head that has settled rarely tries other actions, so that one rollout holds too few of them to compare.
"""


class AdvantageSums(NamedTuple):
    """Choice steps at which each action was sampled, and sums of their normalized advantages; (Σn,) each."""

    steps: Tensor
    total: Tensor
    squares: Tensor

    @classmethod
    def none(cls, actions: int) -> AdvantageSums:
        """Before the first update."""
        return cls(*torch.zeros(3, actions, dtype=torch.float64))

    def after(self, update: AdvantageSums) -> AdvantageSums:
        """These sums, decayed, with those of one update more."""
        return AdvantageSums(*(DECAY * old + new for old, new in zip(self, update, strict=True)))


class Margin(NamedTuple):
    """Mean advantage of the leading action less that of the others, and Welch's t; None: not known."""

    difference: float | None = None
    t: float | None = None


def rollout_sums(rollout: Rollout, advantages: Tensor, layout: HeadLayout) -> AdvantageSums:
    """The sums of one rollout on the device; ``advantages`` (T, N) are normalized."""
    counted = rollout.choice & torch.isfinite(advantages).unsqueeze(-1)
    # An advantage that is not finite has no place in a sum, not even times 0.
    kept = torch.nan_to_num(advantages, 0.0, 0.0, 0.0).double().unsqueeze(-1)
    columns = (rollout.actions + layout.first).flatten()
    values = counted.double().unsqueeze(0) * torch.stack([torch.ones_like(kept), kept, kept * kept])
    sums = values.new_zeros(3, layout.total).index_add_(1, columns, values.flatten(1))
    return AdvantageSums(*sums)


def margin(leading: int, steps: Sequence[float], total: Sequence[float], squares: Sequence[float]) -> Margin:
    """The margin of one head from the sums of its actions; absent without two steps of either kind."""
    of_leading = steps[leading], total[leading], squares[leading]
    of_others = tuple(math.fsum(sums) - sums[leading] for sums in (steps, total, squares))
    if min(of_leading[0], of_others[0]) < 2:
        return Margin()
    (mean, error), (other_mean, other_error) = (_mean_and_error(*sums) for sums in (of_leading, of_others))
    difference, spread = mean - other_mean, math.sqrt(error + other_error)
    return Margin(difference, difference / spread if spread > 0 else None)


def _mean_and_error(steps: float, total: float, squares: float) -> tuple[float, float]:
    """The mean, and its squared standard error with the unbiased variance."""
    mean = total / steps
    deviations = squares - total * mean
    # What rounding leaves of advantages that are all the same is no spread.
    return mean, deviations / (steps - 1) / steps if deviations > 1e-12 * squares else 0.0
