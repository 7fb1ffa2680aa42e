"""Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.value import FAR, MEMORY
from rl_training.ranks import Ranks

_RESOLUTION = 1e-14
"""Square of the relative error of float32."""


def generalized_advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, ended: Tensor, gamma: float, lam: float
) -> Tensor:
    """Advantages (T, N) of the steps of N environments; ``lam`` is the λ of the paper.

    ``next_values`` (T, N) is the value after each step: 0 after a termination, the value of the final
    observation after a truncation. ``ended`` (T, N) bool marks the last step of an episode, terminated or
    truncated: the rewards of the next episode must not reach it.
    """
    deltas = rewards + gamma * next_values - values
    decay = gamma * lam * (~ended).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for step in range(len(deltas) - 1, -1, -1):
        following = deltas[step] + decay[step] * following
        advantages[step] = following
    return advantages


class Moments(NamedTuple):
    """Mean and unbiased variance, float64, (K,) each."""

    mean: Tensor
    variance: Tensor


def moments(quantities: Tensor, count: int, ranks: Ranks) -> Moments:
    """Moments of K quantities (K, T, N) over ``count`` steps, those of all ranks. Raises RankLostError.

    A variance below the resolution of float32 is exactly 0, so that values that do not vary, up to rounding,
    have no variance to divide by.
    """
    # float64: the difference of squares below loses half of the digits.
    exact = quantities.double().flatten(1)
    sums, squares = totals = torch.stack([exact.sum(1), exact.square().sum(1)])
    ranks.all_reduce([totals])
    mean = sums / count
    variance = (squares - sums * mean) / (count - 1)
    return Moments(mean, torch.where(variance <= _RESOLUTION * squares / count, 0.0, variance))


class AdvantageScale:
    """What advantages are divided by: their standard deviation, or a mean of recent ones where that is larger.

    Where all goes well, advantages are small, and mostly errors of the critic: divided by their own deviation,
    they would move the policy as much as ever. DreamerV3 does not enlarge small returns either (Hafner et al.
    2023, arXiv:2301.04104).
    """

    def __init__(self, device: torch.device) -> None:
        self.recent = torch.zeros((), dtype=torch.float64, device=device)
        """The mean, a scalar. It begins with the first rollout, which an untrained critic does not explain."""

    def of(self, variance: Tensor) -> Tensor:
        """The scale of a rollout with this variance of advantages, scalars; what is not finite is not kept.

        The mean takes in a deviation of at most ``FAR`` times its own, so that one huge reward does not stop
        the policy for hundreds of updates.
        """
        deviation = variance.double().sqrt()
        former = torch.where(self.recent > 0, self.recent, deviation)
        recent = former.lerp(torch.minimum(deviation, FAR * former), 1 - MEMORY)
        self.recent = torch.where(deviation.isfinite(), recent, self.recent)
        return torch.maximum(deviation, self.recent)
