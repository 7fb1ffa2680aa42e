"""Where the heads of a policy lie in one flat row of logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


class Segments:
    """The segment of each head in a flat row of Σn logits.

    ``offsets`` (H,) are the first columns, ``total`` is Σn, ``width`` the number of choices of the widest head.
    """

    def __init__(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        self.total = sum(sizes)
        self.width = max(sizes)
        self.offsets = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        self.slices = tuple(slice(start, start + size) for start, size in zip(self.offsets, sizes, strict=True))

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
