"""Masked softmax over the heads of a flat row, in as few passes over memory as possible.

It computes what ``MaskedCategorical`` does, but records no gradient and reuses its memory: telemetry evaluates
every step of an update a second time, and all of it may take a fiftieth of the time of the update.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout

_IMPOSSIBLE = -1e30
"""Score of an action that is not valid: finite, so that 0 times it is 0."""

_BITS_PER_NAT = 1 / math.log(2)


class MaskBits(NamedTuple):
    """A mask as two tensors, because ``torch.where`` takes twenty times as long as an AND and an addition."""

    keep: Tensor
    """All bits of an integer as wide as a logit where an action is valid, else none."""
    fill: Tensor
    """0 where an action is valid, else the score of an impossible one."""

    @classmethod
    def of(cls, mask: Tensor, dtype: torch.dtype) -> MaskBits:
        """The bits of a bool mask for logits of that dtype, float32 or float64."""
        return cls(-mask.to(_integer(dtype)), (1 - mask.to(dtype)) * _IMPOSSIBLE)

    def scores(self, logits: Tensor) -> Tensor:
        """The logits, and where an action is not valid the score of an impossible one, even for a NaN."""
        bits = torch.bitwise_and(logits.view(_integer(logits.dtype)), self.keep)
        return bits.view(logits.dtype).add_(self.fill)


def wide_logits(logits: Tensor) -> Tensor:
    """The logits in float32, or in float64 where they are: half precision is too coarse for an entropy."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def exponentials(scores: Tensor) -> Tensor:
    """e to the power of each score.

    exp takes ten times as long as exp2 where it underflows, as it does at every impossible action.
    """
    return (scores * _BITS_PER_NAT).exp2_()


class Softmax:
    """Distributions of all heads from scores, columns first: (Σn, …), which it overwrites."""

    def __init__(self, scores: Tensor, layout: HeadLayout) -> None:
        self._layout = layout
        self.peak = layout.maxima(scores)
        """(H, …) largest score of each head, NaN where there is one."""
        self._centered = scores.sub_(layout.spread(self.peak))
        self._weights = exponentials(self._centered)
        self._total = layout.sums(self._weights)

    def probabilities(self) -> Tensor:
        """Probability of each action, (Σn, …)."""
        return self._weights / self._layout.spread(self._total)

    def entropy(self) -> Tensor:
        """Entropy of each head in nats, (H, …), as ``MaskedCategorical`` has it; it uses up the scores."""
        weighted = self._layout.sums(self._centered.mul_(self._weights))
        return self._total.log().sub_(weighted.div_(self._total))


def _integer(dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if dtype is torch.float64 else torch.int32
