"""Masked categorical distributions of several heads that share one flat row of logits.

Reductions over the segments of the row serve all heads at once; a Python loop over heads would launch its
kernels once for each head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rl_training.action_space import BoolArray
from rl_training.uploads import upload, upload_together

_IMPOSSIBLE = -1e30
"""Logit of an action that is not valid. Its probability is exactly 0, and so is its part of the entropy:
0 times a finite number is 0. An infinite logit at a *valid* action still shows, as a NaN.
"""


class HeadLayout:
    """Where each head's segment lies in a flat row of Σn logits.

    ``segment`` (Σn,) holds the head of each column, ``row`` (Σn,) its place in it. ``grid`` (widest head, H)
    lists the columns of each head, for reductions that need a rectangle. Where a head has no more columns, it
    repeats the first one and ``outside`` (widest head, H) is True.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        self.total = sum(sizes)
        self.width = max(sizes)
        self.offsets = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        self.slices = tuple(slice(start, start + size) for start, size in zip(self.offsets, sizes, strict=True))
        rows = np.arange(self.width)[:, None]
        outside = rows >= np.asarray(sizes)
        place = torch.device(device)
        self.segment = upload(np.repeat(np.arange(len(sizes)), sizes), place)
        self.row = upload(np.concatenate([np.arange(size) for size in sizes]), place)
        self.first = upload(self.offsets, place)
        self.grid = upload(np.where(outside, 0, rows) + self.offsets, place)
        self.outside = upload(outside, place)
        self._parts: dict[tuple[int, ...], LayoutPart] = {}

    @cached_property
    def members(self) -> Tensor:
        """(H, Σn) bool: the column is one of the head's."""
        heads = torch.arange(len(self.sizes), device=self.segment.device)
        return heads.unsqueeze(1) == self.segment

    @cached_property
    def same_head(self) -> Tensor:
        """(Σn, Σn) bool: two columns are of the same head."""
        return self.segment.unsqueeze(1) == self.segment

    def part(self, heads: tuple[int, ...]) -> LayoutPart:
        """Where some of the heads lie. Kept, because each upload takes as long as an operation."""
        if heads not in self._parts:
            device = self.segment.device
            chosen = [self.slices[head] for head in heads]
            columns = np.concatenate([np.arange(own.start, own.stop) for own in chosen])
            self._parts[heads] = LayoutPart(
                HeadLayout([self.names[head] for head in heads], [self.sizes[head] for head in heads], device),
                *upload_together([np.asarray(heads), columns], device),
            )
        return self._parts[heads]

    def counts(self, masks: BoolArray) -> npt.NDArray[np.int64]:
        """Number of valid choices of each head: (…, Σn) to (…, H)."""
        return np.add.reduceat(masks, self.offsets, axis=-1, dtype=np.int64)

    def require_choices(self, masks: BoolArray) -> None:
        """Raise ValueError, with head and row, where masks (…, Σn) allow a head no action."""
        empty = self.counts(masks) == 0
        if empty.any():
            *row, head = (int(index) for index in np.argwhere(empty)[0])
            raise ValueError(
                f"the mask of head {self.names[head]!r} allows no action in row {tuple(row)}; "
                "every mask must leave at least one valid action"
            )

    def sums(self, columns: Tensor) -> Tensor:
        """Sum of each head's columns: (Σn, …) to (H, …). A NaN stays within its head."""
        return columns.new_zeros(len(self.sizes), *columns.shape[1:]).index_add(0, self.segment, columns)

    def maxima(self, columns: Tensor) -> Tensor:
        """Largest of each head's columns, NaN where there is one: (Σn, …) to (H, …)."""
        # Not ``segment_reduce``: it reads its lengths on the host, which then waits for the device.
        index = self.segment.reshape(-1, *[1] * (columns.ndim - 1)).expand_as(columns)
        lowest = columns.new_full((len(self.sizes), *columns.shape[1:]), -torch.inf)
        return lowest.scatter_reduce_(0, index, columns, "amax")

    def best(self, columns: Tensor) -> Tensor:
        """Index, within its head, of each head's largest column: (Σn, …) to (H, …)."""
        outside = self.outside.reshape(*self.outside.shape, *[1] * (columns.ndim - 1))
        return self._chosen(columns).masked_fill(outside, -torch.inf).argmax(0)

    def rectangle(self, columns: Tensor) -> Tensor:
        """Each head's columns, with 0 where it has no more: (Σn, …) to (widest head, H, …)."""
        outside = self.outside.reshape(*self.outside.shape, *[1] * (columns.ndim - 1))
        return self._chosen(columns).masked_fill(outside, 0.0)

    def columns(self, rectangle: Tensor) -> Tensor:
        """Back from the rectangle: (widest head, H, …) to (Σn, …)."""
        return rectangle[self.row, self.segment]

    def _chosen(self, columns: Tensor) -> Tensor:
        chosen = columns.index_select(0, self.grid.flatten())
        return chosen.reshape(*self.grid.shape, *columns.shape[1:])

    def spread(self, heads: Tensor) -> Tensor:
        """Each head's value for all of its columns: (H, …) to (Σn, …)."""
        return heads.index_select(0, self.segment)


class LayoutPart(NamedTuple):
    """Some heads of a layout."""

    layout: HeadLayout
    """Of these heads alone."""
    heads: Tensor
    """Their indices."""
    columns: Tensor
    """The columns of their actions."""


class Columns(NamedTuple):
    """Distributions of all heads, columns first. Nothing carries a gradient."""

    valid: Tensor
    """(Σn, …) bool, the mask."""
    weights: Tensor
    """(Σn, …) probability of each action times the total of its head; 0 where it is not valid."""
    total: Tensor
    """(H, …)"""


class MaskedCategorical:
    """Categorical distributions of all heads under a mask.

    ``logits`` (…, Σn) may have any floating dtype, ``mask`` (…, Σn) is bool. The computation runs in float32,
    or in float64 where the logits are: half precision is too coarse for an entropy. With ``validate``, a head
    without a valid action raises ValueError; that check waits for the device, so hot paths leave it off and
    check their masks on the host.

    Inside, the columns come first, (Σn, …): a reduction over a handful of choices is ten times faster along the
    outermost dimension.
    """

    def __init__(self, logits: Tensor, mask: Tensor, layout: HeadLayout, *, validate: bool = True) -> None:
        if validate:
            layout.require_choices(mask.cpu().numpy())
        self._layout = layout
        columns = logits.to(torch.promote_types(logits.dtype, torch.float32)).movedim(-1, 0).contiguous()
        self._valid = mask.movedim(-1, 0).contiguous()
        self._logits = columns
        scores = torch.where(self._valid, columns.detach(), _IMPOSSIBLE)
        # The largest logit of each head becomes 0, so that exp cannot overflow.
        self._peak = layout.maxima(scores)
        self._softmax = _Softmax(layout, scores.sub_(layout.spread(self._peak)))

    @property
    def log_probs(self) -> Tensor:
        """Log-probability of every action, (…, Σn), without gradient; -1e30 or less where it is not valid."""
        return (self._softmax.centered - self._layout.spread(self._softmax.log_total)).movedim(0, -1)

    @property
    def columns(self) -> Columns:
        """What the distributions were computed from, without a copy."""
        return Columns(self._valid, self._softmax.weights, self._softmax.total)

    @property
    def peak(self) -> Tensor:
        """Largest logit among each head's valid actions, (…, H); NaN where one of them is NaN."""
        return self._peak.movedim(0, -1)

    @cached_property
    def entropy(self) -> Tensor:
        """Entropy of each head in nats, (…, H); exactly 0 with one valid action.

        NaN where, and only where, a logit of a valid action is not finite.

        With z = logit - max and Z = Σ exp z: H = ln Z - Σ z exp z / Z. Neither ln Z nor -Σ z exp z / Z is
        negative, so they cannot cancel, and rounding cannot make an entropy negative.
        """
        found: Tensor = _Entropy.apply(self._logits, self._softmax)  # type: ignore[no-untyped-call] # torch
        return found.movedim(0, -1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of each head's action, (…, H); -1e30 or less for one that is not valid."""
        # Actions count within their head; the flat row counts over all heads.
        columns = (actions + self._layout.first).movedim(-1, 0)
        found: Tensor = _LogProb.apply(self._logits, self._softmax, columns)  # type: ignore[no-untyped-call] # torch
        return found.movedim(0, -1)

    def choose(self, noise: Tensor) -> Tensor:
        """Sample each head's action, (…, H), with exponential noise (…, Σn).

        The Gumbel-max trick (Gumbel 1954): argmax(log p - log E) with E ~ Exp(1) is a sample of p. It samples
        all heads in one reduction, and the noise of an environment comes from its own generator, so that its
        actions do not depend on the environments beside it.
        """
        # log 0 would make an action with that noise win whatever its probability.
        positive = noise.clamp_min(torch.finfo(noise.dtype).tiny).movedim(-1, 0)
        return self._layout.best(self._softmax.centered - positive.log()).movedim(0, -1)


class _Softmax:
    """The distributions as numbers, columns first, which log-probability, entropy and their gradients share."""

    def __init__(self, layout: HeadLayout, centered: Tensor) -> None:
        self.layout = layout
        self.centered = centered
        self.weights = centered.exp()
        self.total = layout.sums(self.weights)
        self.log_total = self.total.log()

    @cached_property
    def probabilities(self) -> Tensor:
        """(Σn, …)"""
        return self.weights / self.layout.spread(self.total)


class _LogProb(torch.autograd.Function):
    """ln π(a) of the actions at ``columns`` (H, …); its gradient by a logit z_b is 1[a = b] - π(b)."""

    @staticmethod
    def forward(ctx: Any, _logits: Tensor, softmax: _Softmax, columns: Tensor) -> Tensor:
        ctx.softmax, ctx.columns = softmax, columns
        return softmax.centered.gather(0, columns).sub_(softmax.log_total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        softmax: _Softmax = ctx.softmax
        gradient = softmax.layout.spread(upstream.neg()).mul_(softmax.probabilities)
        return gradient.scatter_add_(0, ctx.columns, upstream), None, None


class _Entropy(torch.autograd.Function):
    """ln Z - Σ z π(z); its gradient by a logit z_b is π(b) (Σ z π(z) - z_b)."""

    @staticmethod
    def forward(ctx: Any, _logits: Tensor, softmax: _Softmax) -> Tensor:
        ctx.softmax = softmax
        ctx.mean = softmax.layout.sums(softmax.weights * softmax.centered).div_(softmax.total)
        entropy: Tensor = softmax.log_total - ctx.mean
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        softmax: _Softmax = ctx.softmax
        spread = softmax.layout.spread
        return spread(ctx.mean).sub_(softmax.centered).mul_(softmax.probabilities).mul_(spread(upstream)), None
