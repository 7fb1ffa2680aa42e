"""Ranks: the processes of one run, which share its environments and train one policy.

Rank r of W owns the r-th of W equal blocks of environments. Sums run over the environments of all ranks before
anything is divided or compared, so that every rank decides the same from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class RankLostError(RuntimeError):
    """Another rank has died or does not answer, so the run cannot continue."""


class Ranks(Protocol):
    """The collective operations that the trainer needs. All ranks call each method, in the same order.

    Every method raises RankLostError when a rank has died or does not answer within the timeout.
    """

    @property
    def rank(self) -> int:
        """Number of this process; only rank 0 listens, shows and writes."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    def gather(self, row: Tensor) -> Tensor:
        """Return the rows of all ranks, (size, …), in the order of the ranks."""

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks; all tensors have one dtype."""

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0; all tensors have one dtype."""

    def gather_texts(self, text: str) -> list[str]:
        """Return the texts of all ranks, in the order of the ranks."""

    def watch(self, lost: Callable[[int], None]) -> None:
        """Call ``lost``, from a thread, with the number of a rank that died before this one left."""

    def leave(self, *, well: bool) -> None:
        """Release the connections, so that a rank that still waits for this one fails at once.

        ``well``: this rank has finished, so the others must not report it as lost.
        """


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """The only rank of a run of one process: every collective operation is the identity."""

    rank: int = 0
    size: int = 1

    def gather(self, row: Tensor) -> Tensor:
        """Return the only row, (1, …)."""
        return row.unsqueeze(0)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""

    def gather_texts(self, text: str) -> list[str]:
        """Return the only text."""
        return [text]

    def watch(self, lost: Callable[[int], None]) -> None:
        """Do nothing: no other rank can die."""

    def leave(self, *, well: bool) -> None:
        """Do nothing: no other rank waits."""


SINGLE_PROCESS = SingleProcess()
