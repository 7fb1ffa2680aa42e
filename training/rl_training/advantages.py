"""Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438)."""

from __future__ import annotations

import torch
from torch import Tensor


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


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns), a scalar; NaN when the returns do not vary."""
    return 1 - (returns - values).var() / returns.var()
