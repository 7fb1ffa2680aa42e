"""The equations of Newton's step for all heads: see ``rl_exporter.integrations.meter.newton``."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.newton import newton_sums

_TINY = torch.finfo(torch.float32).tiny

TOGETHER = 128
"""Actions of all heads up to which one system of equations for all of them takes less time than one for each.

It is mostly zeros, but a product of two matrices needs no rectangle, which is mostly zeros, too.
"""


class Equations(Protocol):
    """R systems of n equations each; where one has less, 0 fills it up."""

    def rows(self, flat: Tensor) -> Tensor:
        """A number for each action, (Σn,), as (R, n)."""

    def flat(self, rows: Tensor) -> Tensor:
        """Back to (Σn,)."""

    def sums(self, weights: Tensor, valid: Tensor, idle: Tensor) -> Tensor:
        """(R, n, n) in double precision: the coefficients of one rank, for weights (R, n).

        ``valid`` (Σn, S) is 1 where an action was valid at a choice step of its head; ``idle`` (H, S) is 1
        where the head had no choice.
        """

    def no_sums(self, device: torch.device) -> Tensor:
        """What a rank adds that has no numbers."""


def equations_of(layout: HeadLayout) -> Equations:
    """The faster ones for these heads."""
    return AllHeads(layout) if layout.total <= TOGETHER else EachHead(layout)


class EachHead:
    """A system for each head, as wide as the widest."""

    def __init__(self, layout: HeadLayout) -> None:
        self._layout = layout

    def rows(self, flat: Tensor) -> Tensor:
        """(Σn,) as (H, width)."""
        return self._layout.rectangle(flat).T

    def flat(self, rows: Tensor) -> Tensor:
        """(H, width) as (Σn,)."""
        return self._layout.columns(rows.T)

    def sums(self, weights: Tensor, valid: Tensor, _idle: Tensor) -> Tensor:
        """(H, width, width)"""
        rectangle = self._layout.rectangle(valid).movedim(1, 0).contiguous()
        return newton_sums(rectangle, weights).to(exact_dtype(valid.device))

    def no_sums(self, device: torch.device) -> Tensor:
        """(H, width, width)"""
        heads, width = len(self._layout.sizes), self._layout.width
        return torch.zeros(heads, width, width, dtype=exact_dtype(device), device=device)


class AllHeads:
    """One system, in which actions of different heads have nothing to do with each other."""

    def __init__(self, layout: HeadLayout) -> None:
        self._layout = layout

    def rows(self, flat: Tensor) -> Tensor:
        """(Σn,) as (1, Σn)."""
        return flat.unsqueeze(0)

    def flat(self, rows: Tensor) -> Tensor:
        """(1, Σn) as (Σn,)."""
        return rows.squeeze(0)

    def sums(self, weights: Tensor, valid: Tensor, idle: Tensor) -> Tensor:
        """(1, Σn, Σn)"""
        single = weights.squeeze(0).to(valid.dtype)
        total = torch.addmm(idle, self._layout.members * single, valid).clamp_min_(_TINY)
        shares = self._layout.spread(total.reciprocal_()).mul_(valid).mul_(single.unsqueeze(1))
        pairs = (shares @ shares.T).mul_(self._layout.same_head)
        return pairs.to(exact_dtype(valid.device)).unsqueeze(0)

    def no_sums(self, device: torch.device) -> Tensor:
        """(1, Σn, Σn)"""
        total = self._layout.total
        return torch.zeros(1, total, total, dtype=exact_dtype(device), device=device)
