"""How the ranks of a run meet, and agree on what they were given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from rl_training.config import RunConfig, Settings
from rl_training.errors import BadInputError
from rl_training.ranks import Place, Ranks, RendezvousError, environments_of_a_rank, find_place, joined

_ONE_PROCESS = {"tui": "watch the run with rl-exporter watch", "record_rollouts": "record a run of one process"}


class SaidElsewhereError(BadInputError):
    """Bad input of which another rank of the run says what it is."""


def find_own_place(environment: Mapping[str, str]) -> Place:
    """The place of this process among the ranks. Raises BadInputError."""
    try:
        return find_place(environment)
    except RendezvousError as error:
        raise BadInputError(str(error)) from error


def device_of(name: str, place: Place) -> str:
    """The device of this rank: of several on a machine, each takes the GPU of its number there."""
    if place.size == 1 or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise BadInputError(
            f"--device {name!r} would be that of {place.size} ranks; give --device cuda, and each takes one"
        )
    return f"cuda:{place.local_rank}"


@contextmanager
def met(place: Place, run: RunConfig, device: torch.device) -> Iterator[Ranks]:
    """The ranks, once all are there. Raises BadInputError."""
    try:
        with joined(place, device, run.collective_timeout) as ranks:
            yield ranks
    except RendezvousError as error:
        raise BadInputError(str(error)) from error


def require_shareable(settings: Settings, size: int) -> None:
    """Raise BadInputError where several ranks cannot do what one process can."""
    run, learning = settings.run, settings.learning
    try:
        environments_of_a_rank(run.num_envs, learning.minibatches, size)
    except ValueError as error:
        raise BadInputError(str(error)) from error
    for name, remedy in _ONE_PROCESS.items():
        if size > 1 and getattr(settings.output, name):
            raise BadInputError(
                f"--{name.replace('_', '-')} is for a run of one process, not for {size} ranks; "
                f"leave it out and {remedy}"
            )


def require_same(settings: Settings, ranks: Ranks) -> None:
    """Raise BadInputError, on every rank, unless all were given the same."""
    given = ranks.texts(repr((settings.run, settings.environment, settings.learning)))
    other = next((rank for rank, text in enumerate(given) if text != given[0]), None)
    if other is not None:
        raise BadInputError(
            f"rank {other} has other settings than rank 0; start all ranks with the same command line"
        )


@contextmanager
def agreed(ranks: Ranks) -> Iterator[None]:
    """Bad input on one rank is bad input on all, and rank 0 says which. Raises BadInputError, RankLostError."""
    problem = ""
    try:
        yield
    except BadInputError as error:
        problem = str(error)
    problems = ranks.texts(problem)
    if any(problems) and ranks.rank:
        raise SaidElsewhereError
    for rank, text in enumerate(problems):
        if text:
            raise BadInputError(f"rank {rank}: {text}" if rank else text)
