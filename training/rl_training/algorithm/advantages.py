"""Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.ranks import Ranks

_RESOLUTION = 1e-14
"""Square of the relative error of float32."""


def generalized_advantages(
    rewards: Tensor, values: Tensor, next_values: Tensor, ended: Tensor, gamma: float, lam: float
) -> Tensor:
    """Advantages (T, N).

    ``next_values`` (T, N): the value of what followed the step: 0 after a termination, the value of the
    final observation after a truncation. ``ended`` (T, N) bool: an episode ended here either way, so
    nothing later counts towards this step.
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
    """Moments of K quantities (K, T, N) over the steps of all ranks, ``count`` of them.

    Sums of float64: a variance below what float32 resolves is exactly 0.
    """
    exact = quantities.double().flatten(1)
    sums, squares = totals = torch.stack([exact.sum(1), exact.square().sum(1)])
    ranks.add([totals])
    mean = sums / count
    variance = (squares - sums * mean) / (count - 1)
    return Moments(mean, torch.where(variance <= _RESOLUTION * squares / count, 0.0, variance))
