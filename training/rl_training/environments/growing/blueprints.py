"""The modules that can be grown. Each maps features (B, C, H, W) to a contribution of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_training.action_space import Blueprint

FINAL_GAIN = 0.3
"""Factor on a module's last layer, so that it starts as a small change of the host."""


def build(blueprint: Blueprint, channels: int, size: int) -> nn.Module:
    """A new module for features of ``channels`` planes of ``size`` x ``size``; drawn from torch's generator."""
    module = _BUILDERS[blueprint](channels, size)
    final = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    if final:
        with torch.no_grad():
            final[-1].weight.mul_(FINAL_GAIN)
    return module


class Nothing(nn.Module):
    """Adds nothing, at no cost."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


class Attention(nn.Module):
    """Self-attention of one head over the positions (Vaswani et al. 2017, arXiv:1706.03762).

    ``bias``: adds a learned bias for every pair of positions to the scores.
    """

    def __init__(self, channels: int, size: int, *, bias: bool) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        # Small and not zero: a bias that is the same everywhere would get no gradient at first.
        self.bias = nn.Parameter(torch.randn(size**2, size**2) * 0.02) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Every position looks at every other."""
        query, key, value = self.project(x).flatten(2).transpose(1, 2).chunk(3, -1)
        scores = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        if self.bias is not None:
            scores = scores + self.bias
        seen = scores.softmax(-1) @ value
        out: Tensor = self.out(seen.transpose(1, 2).reshape(x.shape))
        return out


class Norm(nn.Module):
    """What normalisation over channels and positions would change."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised features less the features."""
        normalized: Tensor = self.norm(x)
        return normalized - x


class LowRank(nn.Module):
    """A linear map of 3 x 3 neighbourhoods through ``rank`` (after Hu et al. 2021, arXiv:2106.09685)."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, rank, 3, padding=1, bias=False)
        self.up = nn.Conv2d(rank, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Down to the rank and up again."""
        out: Tensor = self.up(self.down(x))
        return out


class Perceptron(nn.Module):
    """Two layers over the channels of each position."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 1)
        self.second = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Both layers."""
        out: Tensor = self.second(functional.gelu(self.first(x)))
        return out


def _light(channels: int, _size: int) -> nn.Module:
    narrow = channels // 2
    return nn.Sequential(nn.Conv2d(channels, narrow, 3, padding=1), nn.ReLU(), nn.Conv2d(narrow, channels, 1))


def _depthwise(channels: int, _size: int) -> nn.Module:
    spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(spatial, nn.ReLU(), nn.Conv2d(channels, channels, 1))


def _bottleneck(channels: int, _size: int) -> nn.Module:
    narrow = channels // 4
    return nn.Sequential(
        nn.Conv2d(channels, narrow, 1),
        nn.ReLU(),
        nn.Conv2d(narrow, narrow, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(narrow, channels, 1),
    )


def _small(channels: int, _size: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
    )


def _heavy(channels: int, _size: int) -> nn.Module:
    wide = 2 * channels
    return nn.Sequential(
        nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, channels, 3, padding=1)
    )


_BUILDERS: MappingProxyType[Blueprint, Callable[[int, int], nn.Module]] = MappingProxyType(
    {
        Blueprint.NOOP: lambda _channels, _size: Nothing(),
        Blueprint.CONV_LIGHT: _light,
        Blueprint.ATTENTION: lambda channels, size: Attention(channels, size, bias=False),
        Blueprint.NORM: lambda channels, _size: Norm(channels),
        Blueprint.DEPTHWISE: _depthwise,
        Blueprint.BOTTLENECK: _bottleneck,
        Blueprint.CONV_SMALL: _small,
        Blueprint.CONV_HEAVY: _heavy,
        Blueprint.LORA: lambda channels, _size: LowRank(channels, 1),
        Blueprint.LORA_LARGE: lambda channels, _size: LowRank(channels, channels // 2),
        Blueprint.MLP_SMALL: lambda channels, _size: Perceptron(channels, channels),
        Blueprint.MLP: lambda channels, _size: Perceptron(channels, 4 * channels),
        Blueprint.FLEX_ATTENTION: lambda channels, size: Attention(channels, size, bias=True),
    }
)
