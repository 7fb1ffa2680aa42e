"""Norms of a gradient, of each head and of the whole, and its clipping, in one pass over the parameters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.network import FactoredRecurrentActorCritic


class GradientNorms(NamedTuple):
    """Norms before clipping."""

    whole: Tensor
    """Of the whole gradient, a scalar."""
    heads: Tensor
    """(H,) of each head's own parameters."""


class GradientClipping:
    """Scales the gradient of a network down to a norm of ``limit``, as ``torch.nn.utils.clip_grad_norm_`` does.

    The norms of the heads are part of the norm of the whole, so that telemetry gets them for nothing.
    """

    def __init__(self, network: FactoredRecurrentActorCritic, limit: float) -> None:
        self._heads = network.heads
        self._limit = limit
        # Listed once: a walk over the modules, after each minibatch, would take as long as the norms.
        self._all = list(network.parameters())
        own = {id(parameter) for parameter in network.heads.parameters()}
        self._others = [parameter for parameter in self._all if id(parameter) not in own]

    def clip(self) -> GradientNorms:
        """Clip the gradient in place; returns its norms before that."""
        heads = self._heads.gradient_norms()
        # The foreach functions take all parameters in one call, or in one kernel on a GPU.
        others = torch._foreach_norm([p.grad for p in self._others if p.grad is not None])  # noqa: SLF001 - documented
        whole = torch.linalg.vector_norm(torch.cat([heads, torch.stack(others)]))
        # 1e-6 keeps a gradient of nothing from a division by zero.
        scale = (self._limit / (whole + 1e-6)).clamp_(max=1.0)
        torch._foreach_mul_([p.grad for p in self._all if p.grad is not None], scale)
        return GradientNorms(whole, heads)
