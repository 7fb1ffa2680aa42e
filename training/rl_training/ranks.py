"""Ranks: the processes of one run, which share its environments and train one policy.

Rank r of W owns the r-th of W equal blocks of environments. Whatever is a sum over all environments is summed
over the ranks before it is divided or compared, so that every rank decides the same from the same numbers.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from rl_training.peers import Peers

_START = "start all ranks with torchrun"


class RendezvousError(ValueError):
    """The ranks of a run cannot find each other; the message names the reason and the remedy."""


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
class Alone:
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


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many processes this is, and which on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: tuple[str, int] = ("", 0)
    """Where the ranks meet."""


def find_place(environment: Mapping[str, str]) -> Place:
    """The place that torchrun gives a process in its environment variables; without any, the only one.

    Raises RendezvousError.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return Place()
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if rank >= size:
        raise RendezvousError(f"RANK {rank} is not below WORLD_SIZE {size}; {_START}")
    if size == 1:
        return Place()
    local = _number(environment, "LOCAL_RANK") if "LOCAL_RANK" in environment else 0
    address = _text(environment, "MASTER_ADDR"), _number(environment, "MASTER_PORT")
    return Place(rank, size, local, address)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not text.isascii() or not text.isdigit():
        raise RendezvousError(f"{name} is {text!r}, which is no number >= 0; {_START}, or unset it")
    return int(text)


def _text(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name)
    if not text:
        raise RendezvousError(f"{name} is not set, but other variables of a rank are; {_START}, or unset them")
    return text


def environments_of_a_rank(total: int, minibatches: int, size: int) -> int:
    """How many environments each rank owns. Raises ValueError, with the remedy, for unequal parts.

    Every minibatch takes as many environments from each rank.
    """
    unit = size * minibatches
    if size > 1 and total % unit:
        raise ValueError(
            f"--num-envs {total} does not give each of {size} ranks an equal part of {minibatches} "
            f"minibatches; give a multiple of {unit}, or other --minibatches"
        )
    return total // size


def backend_of(device: torch.device) -> str:
    """What carries the tensors of ranks on that device: nccl those on a GPU, gloo those of the host."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextmanager
def joined(place: Place, device: torch.device, timeout: float) -> Iterator[Ranks]:
    """The ranks of this run, once all are there; ``timeout`` in seconds, for this and for each exchange.

    Raises RendezvousError.
    """
    if place.size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    group = _Group(place, backend_of(device), timeout)
    try:
        yield group
    finally:
        group.leave(well=False)


class _Group:
    """Several processes, over torch.distributed."""

    def __init__(self, place: Place, backend: str, timeout: float) -> None:
        self.rank, self.size = place.rank, place.size
        self._timeout = timeout
        try:
            if place.rank:
                _wait_for(place.address, timeout)
            patience = timedelta(seconds=timeout)
            dist.init_process_group(backend, timeout=patience)
            self._peers = Peers(place.rank, place.size, patience)
        except (OSError, RuntimeError, ValueError) as error:
            host, port = place.address
            raise RendezvousError(
                f"rank {place.rank} of {place.size} did not meet the others at {host}:{port} within "
                f"{timeout:g} s: {_shortened(error)}; {_START}, or correct MASTER_ADDR and MASTER_PORT"
            ) from error

    def gather(self, row: Tensor) -> Tensor:
        rows = row.new_empty(self.size, *row.shape)
        with self._exchange():
            dist.all_gather(list(rows), row.contiguous())
        return rows

    def add(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._exchange():
            dist.all_reduce(flat)
        _scatter(flat, tensors)

    def copy(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._exchange():
            dist.broadcast(flat, src=0)
        _scatter(flat, tensors)

    def texts(self, text: str) -> list[str]:
        found: list[str] = [""] * self.size
        with self._exchange():
            dist.all_gather_object(found, text)
        return found

    def watch(self, lost: Callable[[int], None]) -> None:
        self._peers.watch(lost)

    def leave(self, *, well: bool) -> None:
        if not dist.is_initialized():
            return
        if well:
            # Together: a rank that closed its connections early would look lost to one that is not as far yet.
            self._peers.end()
            with suppress(RankLostError):
                self.gather(torch.zeros(1))
        self._peers.leave()
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
    """Wait until somebody listens there. Raises OSError; torch itself would say it in many lines."""
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
    text = " ".join(str(error).split()).partition(". ")[0]
    return (text.partition("] ")[2] if text.startswith("[/") else text)[:200].rstrip(".")
