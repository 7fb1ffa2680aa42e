"""Where the heads of a policy lie in one flat row of logits, and sums over their segments without a loop."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl_exporter.integrations.meter.segments import Segments
from rl_exporter.integrations.meter.uploads import upload, upload_together


def exact_dtype(device: torch.device) -> torch.dtype:
    """For sums and counts: float64 holds counts up to 2^53 exactly. Apple's GPUs only have float32."""
    return torch.float32 if device.type == "mps" else torch.float64


class HeadLayout(Segments):
    """Where each head's segment lies in a flat row of Σn logits.

    ``segment`` (Σn,) holds the head of each column, ``row`` (Σn,) its place in it; ``first`` and ``widths``
    (H,) are the first column and the number of choices of each head. ``grid`` (widest head, H) lists the
    columns of each head, for reductions that need a rectangle. Where a head has no more columns, it repeats the
    first one and ``outside`` (widest head, H) is True.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int], device: torch.device | str = "cpu") -> None:
        super().__init__(names, sizes)
        rows = np.arange(self.width)[:, None]
        outside = rows >= np.asarray(sizes)
        place = torch.device(device)
        self.segment = upload(np.repeat(np.arange(len(sizes)), sizes), place)
        self.row = upload(np.concatenate([np.arange(size) for size in sizes]), place)
        self.first = upload(self.offsets, place)
        self.widths = upload(np.asarray(sizes, np.int64), place)
        self.grid = upload(np.where(outside, 0, rows) + self.offsets, place)
        self.outside = upload(outside, place)
        self.head_of_column = tuple(np.repeat(np.arange(len(sizes)), sizes).tolist())
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
