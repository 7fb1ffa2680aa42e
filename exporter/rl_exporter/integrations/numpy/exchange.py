"""Sums over the processes that train one policy together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.sums import FloatArray

Gather = Callable[[npt.NDArray[np.uint8]], npt.ArrayLike | Sequence[Any]]
"""Takes one flat array of bytes and returns those of all processes, (processes, length), in any order that all
share. Bytes, because JAX would round float64 to float32.
"""


class Exchange:
    """Collective operations; all processes call each, in the same order. No ``gather``: a single process."""

    def __init__(self, gather: Gather | None) -> None:
        self._gather = gather

    def rows(self, row: FloatArray) -> FloatArray:
        """The rows of all processes, (processes, L), from one row (L,) each."""
        if self._gather is None:
            return row[None]
        own = np.ascontiguousarray(row, np.float64).view(np.uint8)
        gathered = np.ascontiguousarray(np.asarray(self._gather(own)), np.uint8)
        return gathered.reshape(-1, own.size).view(np.float64)

    def sum(self, part: FloatArray) -> FloatArray:
        """The sum over the processes of arrays of one shape."""
        total: FloatArray = self.rows(part.ravel()).sum(0).reshape(part.shape)
        return total
