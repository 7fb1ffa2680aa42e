"""Ranks: the processes of one run, which share its environments and train one policy.

Rank r of W owns the r-th of W equal blocks of environments. A sum over all environments is summed over the
ranks before it is divided or compared, so every rank decides the same from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class RankLostError(RuntimeError):
    """Another rank is gone or does not answer: the run cannot go on."""


class Ranks(Protocol):
    """What the trainer asks of the ranks of its run. Each method is called by all of them, in the same order.

    Raises RankLostError when one is gone, or is not there within the timeout.
    """

    @property
    def rank(self) -> int:
        """Number of this process; rank 0 alone listens, shows and writes."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, row: Tensor) -> Tensor:
        """The rows of all ranks, (size, …), in order."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks; all of one type."""

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0; all of one type."""

    def texts(self, text: str) -> list[str]:
        """The texts of all ranks, in order."""

    def watch(self, lost: Callable[[int], None]) -> None:
        """Call ``lost``, from a thread, with the number of a rank that is gone, until this one leaves."""

    def leave(self, *, well: bool) -> None:
        """This rank has nothing more to do with the others; whoever waits for it learns that at once.

        ``well``: it has ended as it should, so its absence is no loss.
        """


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """A run of one process."""

    rank: int = 0
    size: int = 1

    def gather(self, row: Tensor) -> Tensor:
        """The one row."""
        return row.unsqueeze(0)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to add."""

    def copy(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to copy."""

    def texts(self, text: str) -> list[str]:
        """The one text."""
        return [text]

    def watch(self, lost: Callable[[int], None]) -> None:
        """Nobody to watch."""

    def leave(self, *, well: bool) -> None:
        """Nobody to leave."""


SINGLE_PROCESS = SingleProcess()
