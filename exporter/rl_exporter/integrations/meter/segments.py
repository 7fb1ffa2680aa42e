"""Where the heads of a policy lie in one flat row of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

    def parts_of(self, given: Any, what: str) -> list[Any] | None:
        """One part for each head, in their order; None where ``given`` is one array of all heads.

        Raises ValueError where the heads are others. ``what``: what it calls them.
        """
        if isinstance(given, Mapping):
            if set(given) != set(self.names):
                raise ValueError(
                    f"{what} are of heads {', '.join(map(str, given))}; the meter was declared with "
                    f"{', '.join(self.names)}"
                )
            return [given[name] for name in self.names]
        if not isinstance(given, list | tuple):
            return None
        if len(given) != len(self.names):
            raise ValueError(
                f"{what} are of {len(given)} heads; the meter was declared with {', '.join(self.names)}"
            )
        return list(given)

    def require_equal(self, steps: Sequence[int], what: str) -> None:
        """Raise ValueError where the heads have different numbers of steps."""
        if len(set(steps)) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in zip(self.names, steps, strict=True))
            raise ValueError(f"{what} of the heads are of different numbers of steps: {listed}")
