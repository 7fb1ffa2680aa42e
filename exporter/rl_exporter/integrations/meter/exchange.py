"""Sums over the processes that train one policy together: what a meter needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class Exchange(Protocol):
    """Collective operations. All processes call each method, in the same order."""

    def gather(self, row: Tensor) -> Tensor:
        """Return the rows of all processes, (processes, …), in their order."""

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes; all tensors have one dtype."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A single process: every collective operation is the identity."""

    def counts(self, own: int, _device: torch.device) -> Sequence[int]:
        """Return the only one."""
        return [own]

    def gather(self, row: Tensor) -> Tensor:
        """Return the only row, (1, …)."""
        return row.unsqueeze(0)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Leave the tensors as they are."""


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class GroupExchange:
    """The processes of a group of ``torch.distributed``, DistributedDataParallel's among them."""

    group: dist.ProcessGroup

    def counts(self, own: int, device: torch.device) -> Sequence[int]:
        """Return those of all processes; the host waits for the device, that of the other exchanges."""
        found: list[int] = self.gather(torch.tensor(own, device=device)).tolist()
        return found

    def gather(self, row: Tensor) -> Tensor:
        """Return the rows of all processes."""
        rows = [torch.empty_like(row) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(rows, row, group=self.group)
        return torch.stack(rows)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Add each tensor up."""
        for tensor in tensors:
            dist.all_reduce(tensor, group=self.group)
