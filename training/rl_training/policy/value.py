"""A value head that learns returns of any scale (PopArt: van Hasselt et al. 2016, arXiv:1602.07714)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rl_training.policy.tanh import tanh

Units = tuple[Tensor, ...]
"""What ``PopArtValue.rescale`` changes."""

MEMORY = 0.97
"""Share of the scales of returns and advantages that stays from one update to the next. With 0.7, poles of
CartPole fell again after they had learned to stand. With 0.99, units of long ago hid the differences of today.
"""
FAR = 100.0
"""The most by which one rollout may exceed the scale of those before it, as returns and advantages do that hold
a single huge reward. Without a limit, a memory of 0.97 takes hundreds of updates to forget it.
"""
_LEAST_SCALE = 1e-4
"""Returns that do not vary must not blow up the output layer."""


class PopArtValue(nn.Module):
    """Learns returns in units of their own mean and standard deviation, and gives them in those of the reward.

    The loss of large returns would drown that of the policy, and saturate the layers before it: the network
    learns numbers of the size of 1 instead. ``rescale`` follows the returns and corrects the output layer, so
    that no estimate changes when the units do.
    """

    mean: Tensor
    scale: Tensor
    _moments: Tensor
    _weight: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, inputs)
        self.output = nn.Linear(inputs, 1)
        nn.init.orthogonal_(self.hidden.weight, math.sqrt(2))
        nn.init.zeros_(self.hidden.bias)
        nn.init.orthogonal_(self.output.weight, 1.0)
        nn.init.zeros_(self.output.bias)
        # float64: the difference of squares below loses half of the digits.
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("_moments", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("_weight", torch.zeros((), dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Features (…, inputs) to estimated returns (…,)."""
        # Under autocast these products are coarse, but returns of any scale need all digits.
        normalized = self.output(tanh(self.hidden(features))).squeeze(-1).to(features.dtype)
        estimates: Tensor = normalized * self.scale.to(normalized.dtype) + self.mean.to(normalized.dtype)
        return estimates

    @torch.no_grad()
    def rescale(self, mean: Tensor, variance: Tensor) -> None:
        """Take in the moments of the returns of one rollout, scalars; estimates stay what they were.

        The moments are means over past rollouts, of which each weighs ``MEMORY`` of the next. Moments that are
        not finite change nothing. Where they lie beyond ``FAR`` times the present scale, they count as that.
        """
        mean, variance = mean.double(), variance.double()
        found = self._limited(mean, variance)
        finite = mean.isfinite() & variance.isfinite()
        share = (1 - MEMORY) * finite.double()
        moments = self._moments.double().lerp(torch.where(finite, found, 0.0), share)
        former = self._weight.double()
        weight = former.lerp(torch.ones_like(former), share)
        # Divided by their weight: the first rollout counts whole, as in Adam's correction of its bias.
        center, square = moments / weight.clamp_min(1 - MEMORY)
        spread = (square - center.square()).clamp_min(0).sqrt().clamp_min(_LEAST_SCALE)
        units = torch.stack([self.mean, self.scale]).double()
        new_mean, new_scale = torch.where(weight > 0, torch.stack([center, spread]), units)
        self.output.weight.mul_(units[1] / new_scale)
        self.output.bias.mul_(units[1] / new_scale).add_((units[0] - new_mean) / new_scale)
        for buffer, value in zip(self.buffers(), (new_mean, new_scale, moments, weight), strict=True):
            buffer.copy_(value)

    def units(self) -> Units:
        """A copy of what ``rescale`` changes."""
        return tuple(part.detach().clone() for part in self._rescaled())

    @torch.no_grad()
    def restore(self, units: Units) -> None:
        """Go back to a copy, and with it to its estimates: the output layer, too, is as it was."""
        for part, former in zip(self._rescaled(), units, strict=True):
            part.copy_(former)

    def _rescaled(self) -> Units:
        return (self.output.weight, self.output.bias, *self.buffers())

    def _limited(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Mean of the returns of one rollout, and mean of their squares, (2,)."""
        center, reach = self.mean.double(), FAR * self.scale.double()
        # Before the first rollout there is no scale, nor while returns do not vary.
        outlier = (self._weight > 0) & (self.scale > _LEAST_SCALE) & (variance > reach.square())
        near = mean.clamp(center - reach, center + reach)
        limited = torch.stack([near, reach.square() + near.square()])
        return torch.where(outlier, limited, torch.stack([mean, variance + mean.square()]))
