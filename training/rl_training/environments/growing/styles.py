"""How a grown module joins the host. At alpha 0 the host's features stay unchanged in every style."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rl_training.action_space import Blueprint, Style
from rl_training.environments.growing.blueprints import build


class Graft(nn.Module):
    """A module and its learned gate, which only GATED_GATE uses."""

    def __init__(self, blueprint: Blueprint, channels: int, side: int) -> None:
        super().__init__()
        self.module = build(blueprint, channels, side)
        self.gate = nn.Linear(channels, channels)

    def join(self, x: Tensor, style: Style, alpha: float) -> Tensor:
        """Host features (B, P, C) with the module joined at weight ``alpha`` in [0, 1].

        LINEAR_ADD       x + alpha m
        LINEAR_MULTIPLY  x (1 + alpha m)
        SIGMOID_ADD      x + alpha (2 sigmoid(m) - 1): no more than alpha is added
        GATED_GATE       x + alpha g m, with g = sigmoid(gate(mean of x over positions)) for each channel
        """
        m: Tensor = self.module(x)
        if style is Style.LINEAR_ADD:
            return x + alpha * m
        if style is Style.LINEAR_MULTIPLY:
            return x * (1 + alpha * m)
        if style is Style.SIGMOID_ADD:
            return x + alpha * torch.tanh(m / 2)
        gate: Tensor = torch.sigmoid(self.gate(x.mean(1, keepdim=True)))
        return x + alpha * gate * m
