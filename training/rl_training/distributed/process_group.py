"""The ranks of a run as processes, over torch.distributed."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from rl_training.distributed.assignment import START_REMEDY, RankAssignment, RendezvousError
from rl_training.distributed.failure_detector import FailureDetector
from rl_training.ranks import SINGLE_PROCESS, RankLostError, Ranks


def backend_of(device: torch.device) -> str:
    """The torch.distributed backend for that device: nccl carries tensors on a GPU, gloo those of the host."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextmanager
def joined_group(assignment: RankAssignment, device: torch.device, timeout: float) -> Iterator[Ranks]:
    """The ranks of this run, once all have joined; ``timeout`` in seconds, for joining and for each exchange.

    Raises RendezvousError when a rank does not join in time.
    """
    if assignment.size == 1:
        yield SINGLE_PROCESS
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    group = _ProcessGroup(assignment, backend_of(device), timeout)
    try:
        yield group
    finally:
        group.leave(well=False)


class _ProcessGroup:
    """``Ranks`` over torch.distributed: one process is one rank."""

    def __init__(self, assignment: RankAssignment, backend: str, timeout: float) -> None:
        self.rank, self.size = assignment.rank, assignment.size
        self._timeout = timeout
        try:
            if assignment.rank:
                _wait_for(assignment.address, timeout)
            limit = timedelta(seconds=timeout)
            dist.init_process_group(backend, timeout=limit)
            self._detector = FailureDetector(assignment.rank, assignment.size, limit)
        except (OSError, RuntimeError, ValueError) as error:
            host, port = assignment.address
            raise RendezvousError(
                f"rank {assignment.rank} of {assignment.size} did not meet the others at {host}:{port} within "
                f"{timeout:g} s: {_shortened(error)}; {START_REMEDY}, or correct MASTER_ADDR and MASTER_PORT"
            ) from error

    def gather(self, row: Tensor) -> Tensor:
        rows = row.new_empty(self.size, *row.shape)
        with self._exchange():
            dist.all_gather(list(rows), row.contiguous())
        return rows

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        # One flat tensor and one exchange: latency, not bandwidth, dominates for tensors this small.
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._exchange():
            dist.all_reduce(flat)
        _scatter(flat, tensors)

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._exchange():
            dist.broadcast(flat, src=0)
        _scatter(flat, tensors)

    def gather_texts(self, text: str) -> list[str]:
        found: list[str] = [""] * self.size
        with self._exchange():
            dist.all_gather_object(found, text)
        return found

    def watch(self, lost: Callable[[int], None]) -> None:
        self._detector.watch(lost)

    def leave(self, *, well: bool) -> None:
        if not dist.is_initialized():
            return
        if well:
            # All ranks leave together: one that closed its connections earlier would look dead to the others.
            self._detector.end()
            with suppress(RankLostError):
                self.gather(torch.zeros(1))
        self._detector.leave()
        dist.destroy_process_group()

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise RankLostError(
                f"rank {self.rank} of {self.size}: another rank is gone or did not answer within "
                f"{self._timeout:g} s ({_shortened(error)})"
            ) from error


def _wait_for(address: tuple[str, int], timeout: float) -> None:
    """Wait until rank 0 listens at the address. Raises OSError at the deadline.

    torch would wait as well, but its error runs over many lines; this one fits into the one line of rl-train.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(address, timeout=max(0.1, deadline - time.monotonic())).close()
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(min(0.2, timeout / 10))
        else:
            return


@torch.no_grad()
def _scatter(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def _shortened(error: BaseException) -> str:
    """The first sentence of an error of torch, without the source location that it begins with."""
    text = " ".join(str(error).split()).partition(". ")[0]
    return (text.partition("] ")[2] if text.startswith("[/") else text)[:200].rstrip(".")
