"""How the ranks of a run meet, check that they were given the same settings, and fail together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from rl_training.config import BadInputError, RunConfig, Settings
from rl_training.distributed.assignment import (
    RankAssignment,
    RendezvousError,
    environments_of_a_rank,
    rank_assignment,
)
from rl_training.distributed.process_group import joined_group
from rl_training.literals import canonical
from rl_training.ranks import Ranks

_ONE_PROCESS = {"tui": "watch the run with rl-exporter watch", "record_rollouts": "record a run of one process"}


class SaidElsewhereError(BadInputError):
    """Bad input that another rank reports, so that this one exits without a message."""


def own_assignment(environment: Mapping[str, str]) -> RankAssignment:
    """Which rank this process is. Raises BadInputError."""
    try:
        return rank_assignment(environment)
    except RendezvousError as error:
        raise BadInputError(str(error)) from error


def device_of(name: str, assignment: RankAssignment) -> str:
    """The device of this rank; several ranks on one machine take one GPU each. Raises BadInputError."""
    if assignment.size == 1 or not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise BadInputError(
            f"--device {name!r} would serve all {assignment.size} ranks; give --device cuda, and each takes one"
        )
    return f"cuda:{assignment.local_rank}"


@contextmanager
def rendezvous(assignment: RankAssignment, run: RunConfig, device: torch.device) -> Iterator[Ranks]:
    """The ranks of the run, once all have joined. Raises BadInputError."""
    try:
        with joined_group(assignment, device, run.collective_timeout) as ranks:
            yield ranks
    except RendezvousError as error:
        raise BadInputError(str(error)) from error


def require_shareable(settings: Settings, size: int) -> None:
    """Raise BadInputError for settings that only a run of one process supports."""
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
    """Raise BadInputError, on every rank, unless all ranks have the same settings.

    Ranks that differ would wait in different exchanges, or average gradients of different losses.
    Output settings may differ: only rank 0 uses them.
    """
    # Not its repr: each process has the items of a set in an order of its own.
    environment = canonical(dict(settings.environment))
    given = ranks.gather_texts(repr((settings.run, environment, settings.learning)))
    other = next((rank for rank, text in enumerate(given) if text != given[0]), None)
    if other is not None:
        raise BadInputError(
            f"rank {other} has other settings than rank 0; start all ranks with the same command line"
        )


@contextmanager
def failing_together(ranks: Ranks) -> Iterator[None]:
    """Turn bad input on one rank into bad input on all, which rank 0 reports.

    A rank that exited alone would leave the others waiting until the timeout.
    Raises BadInputError, RankLostError.
    """
    problem = ""
    try:
        yield
    except BadInputError as error:
        problem = str(error)
    problems = ranks.gather_texts(problem)
    # One message for one mistake: the launcher shows the output of all ranks together.
    if any(problems) and ranks.rank:
        raise SaidElsewhereError
    for rank, text in enumerate(problems):
        if text:
            raise BadInputError(f"rank {rank}: {text}" if rank else text)
