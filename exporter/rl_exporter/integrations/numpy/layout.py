"""Sums over the segments of a flat row of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.segments import Segments
from rl_exporter.integrations.meter.sums import FloatArray

Scalar = TypeVar("Scalar", bound=np.generic)


class HeadLayout(Segments):
    """``segment`` (Σn,) holds the head of each column, ``row`` (Σn,) its place in it."""

    def __init__(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        super().__init__(names, sizes)
        self.segment = np.repeat(np.arange(len(sizes)), sizes)
        self.row = np.concatenate([np.arange(size) for size in sizes])
        self.members: FloatArray = (self.segment[:, None] == np.arange(len(sizes))).astype(np.float64)
        """(Σn, H) 1 where the column is one of the head's."""

    def sums(self, rows: FloatArray) -> FloatArray:
        """Sum of each head's columns: (S, Σn) to (S, H). A NaN stays within its head."""
        total: FloatArray = np.add.reduceat(rows, self.offsets, axis=-1)
        return total

    def maxima(self, rows: FloatArray) -> FloatArray:
        """Largest of each head's columns, NaN where there is one: (S, Σn) to (S, H)."""
        largest: FloatArray = np.maximum.reduceat(rows, self.offsets, axis=-1)
        return largest

    def spread(self, heads: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Each head's value for all of its columns: (…, H) to (…, Σn)."""
        return heads[..., self.segment]
