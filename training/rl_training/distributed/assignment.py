"""Which rank of a run this process is, and how many environments each rank owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

START_REMEDY = "start all ranks with torchrun"


class RendezvousError(ValueError):
    """The ranks of a run cannot meet; the message names the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class RankAssignment:
    """Number of this process, number of processes, and number of this process on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: tuple[str, int] = ("", 0)
    """Where the ranks meet."""


def rank_assignment(environment: Mapping[str, str]) -> RankAssignment:
    """The rank that torchrun assigns in the environment variables; without any, that of a single process.

    Raises RendezvousError for variables that contradict each other, or are no numbers.
    """
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return RankAssignment()
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if rank >= size:
        raise RendezvousError(f"RANK {rank} is not below WORLD_SIZE {size}; {START_REMEDY}")
    if size == 1:
        return RankAssignment()
    local = _number(environment, "LOCAL_RANK") if "LOCAL_RANK" in environment else 0
    address = _text(environment, "MASTER_ADDR"), _number(environment, "MASTER_PORT")
    return RankAssignment(rank, size, local, address)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not text.isascii() or not text.isdigit():
        raise RendezvousError(f"{name} is {text!r}, which is no number >= 0; {START_REMEDY}, or unset it")
    return int(text)


def _text(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name)
    if not text:
        raise RendezvousError(
            f"{name} is not set, but other variables of a rank are; {START_REMEDY}, or unset them"
        )
    return text


def environments_of_a_rank(total: int, minibatches: int, size: int) -> int:
    """How many of ``total`` environments each rank owns. Raises ValueError, with the remedy, for unequal parts.

    Every minibatch takes as many environments from each rank, so that no rank waits for another.
    """
    unit = size * minibatches
    if size > 1 and total % unit:
        raise ValueError(
            f"--num-envs {total} does not give each of {size} ranks an equal part of {minibatches} "
            f"minibatches; give a multiple of {unit}, or other --minibatches"
        )
    return total // size
