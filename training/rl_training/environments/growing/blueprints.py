"""The modules that can grow. Each maps features (B, P, C) to a contribution of the same shape.

P = side x side positions come before C channels: on networks this small, a linear layer over the last dimension
takes a fifth of the time of the 1 x 1 convolution that it equals.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn

from rl_training.action_space import Blueprint

FINAL_GAIN = 0.3
"""Factor on the initial weights of a module's last layer: modules start as small changes."""


def build(blueprint: Blueprint, channels: int, side: int) -> nn.Module:
    """A module for ``channels`` planes of ``side`` x ``side``, initialised from torch's global generator."""
    module = _BUILDERS[blueprint](channels, side)
    final = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if final:
        with torch.no_grad():
            final[-1].weight.mul_(FINAL_GAIN)
    return module


class Nothing(nn.Module):
    """The blueprint NOOP: contributes zeros and has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


class Neighbourhood(nn.Module):
    """A 3 x 3 convolution of features whose positions come before their channels."""

    def __init__(self, inputs: int, outputs: int, side: int, *, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.side = side
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, inputs) to (B, P, outputs)."""
        planes = x.transpose(1, 2).reshape(len(x), -1, self.side, self.side)
        out: Tensor = self.convolution(planes)
        return out.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention of one head over the positions (Vaswani et al. 2017, arXiv:1706.03762).

    ``biased`` adds a learned bias for every pair of positions to the scores.
    """

    def __init__(self, channels: int, side: int, *, biased: bool) -> None:
        super().__init__()
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        # Small but not zero: a bias that is the same everywhere would start without a gradient.
        self.bias = nn.Parameter(torch.randn(side**2, side**2) * 0.02) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, C) to (B, P, C): every position attends to every position."""
        query, key, value = self.project(x).chunk(3, -1)
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        if self.bias is not None:
            scores = scores + self.bias
        out: Tensor = self.out(scores.softmax(-1) @ value)
        return out


class Norm(nn.Module):
    """Layer normalisation over channels and positions, as a contribution: normalised features less features."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((side**2, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, C) to (B, P, C)."""
        normalized: Tensor = self.norm(x)
        return normalized - x


def _light(channels: int, side: int) -> nn.Module:
    narrow = channels // 2
    return nn.Sequential(Neighbourhood(channels, narrow, side), nn.ReLU(), nn.Linear(narrow, channels))


def _depthwise(channels: int, side: int) -> nn.Module:
    spatial = Neighbourhood(channels, channels, side, groups=channels)
    return nn.Sequential(spatial, nn.ReLU(), nn.Linear(channels, channels))


def _bottleneck(channels: int, side: int) -> nn.Module:
    narrow = channels // 4
    return nn.Sequential(
        nn.Linear(channels, narrow),
        nn.ReLU(),
        Neighbourhood(narrow, narrow, side),
        nn.ReLU(),
        nn.Linear(narrow, channels),
    )


def _small(channels: int, side: int) -> nn.Module:
    return nn.Sequential(Neighbourhood(channels, channels, side), nn.ReLU(), nn.Linear(channels, channels))


def _heavy(channels: int, side: int) -> nn.Module:
    wide = 2 * channels
    return nn.Sequential(Neighbourhood(channels, wide, side), nn.ReLU(), Neighbourhood(wide, channels, side))


def _low_rank(channels: int, side: int, rank: int) -> nn.Module:
    """A linear map of 3 x 3 neighbourhoods through ``rank`` (after Hu et al. 2021, arXiv:2106.09685)."""
    return nn.Sequential(Neighbourhood(channels, rank, side, bias=False), nn.Linear(rank, channels, bias=False))


def _perceptron(channels: int, hidden: int) -> nn.Module:
    """Two linear layers over the channels of each position."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


_BUILDERS: MappingProxyType[Blueprint, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        Blueprint.NOOP: lambda _channels, _side: Nothing(),
        Blueprint.CONV_LIGHT: _light,
        Blueprint.ATTENTION: lambda channels, side: Attention(channels, side, biased=False),
        Blueprint.NORM: Norm,
        Blueprint.DEPTHWISE: _depthwise,
        Blueprint.BOTTLENECK: _bottleneck,
        Blueprint.CONV_SMALL: _small,
        Blueprint.CONV_HEAVY: _heavy,
        Blueprint.LORA: lambda channels, side: _low_rank(channels, side, 1),
        Blueprint.LORA_LARGE: lambda channels, side: _low_rank(channels, side, channels // 2),
        Blueprint.MLP_SMALL: lambda channels, _side: _perceptron(channels, channels),
        Blueprint.MLP: lambda channels, _side: _perceptron(channels, 4 * channels),
        Blueprint.FLEX_ATTENTION: lambda channels, side: Attention(channels, side, biased=True),
    }
)
