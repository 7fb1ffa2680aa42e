"""Counts of a rollout, first in one rank's environments and then in those of all ranks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rl_training.ranks import Ranks

RETURN_WINDOW = 100
"""Episodes in the mean return that a run shows."""

Counts = npt.NDArray[np.int64]


class Finished(NamedTuple):
    """An episode that ended in a rollout. Tuples order by step, then environment, on every rank alike."""

    step: int
    environment: int
    """Index among the environments of all ranks."""
    episode_return: float


class RolloutCounts(NamedTuple):
    """Counts over the n environments of one rank, or over all N; H heads."""

    stop: bool
    """A rank wants the run to stop; the other fields then mean nothing."""
    choice: Counts
    """(H,) choice steps of the rollout."""
    open: Counts
    """(H,) open steps of the rollout."""
    episodes: Counts
    """(n,) or (N,) episodes that each environment has finished since the start of the run."""
    finished: tuple[Finished, ...]
    """Episodes that ended in this rollout, in the order of their end, the last RETURN_WINDOW at most."""


def counts_of_all_ranks(own: RolloutCounts, ranks: Ranks) -> RolloutCounts:
    """The counts of all ranks together, the same on each rank. Raises RankLostError."""
    row = torch.from_numpy(_packed(own))
    heads = len(own.choice)
    parts = [_unpacked(part.numpy(), heads) for part in ranks.gather(row)]
    stop = any(part.stop for part in parts)
    if stop:
        # A launcher that lost one rank tells the others to stop, but that run has failed rather than been
        # interrupted. A second exchange tells the two apart: it raises when a rank has died.
        ranks.gather(row)
    finished = sorted(episode for part in parts for episode in part.finished)
    return RolloutCounts(
        stop,
        sum((part.choice for part in parts), np.zeros(heads, np.int64)),
        sum((part.open for part in parts), np.zeros(heads, np.int64)),
        np.concatenate([part.episodes for part in parts]),
        tuple(finished[-RETURN_WINDOW:]),
    )


def _packed(counts: RolloutCounts) -> npt.NDArray[np.float64]:
    """One flat row, as long on every rank; float64 holds all of these counts exactly."""
    finished = np.full((RETURN_WINDOW, 3), np.nan)
    if counts.finished:
        finished[: len(counts.finished)] = counts.finished
    parts = ([counts.stop], counts.choice, counts.open, finished.ravel(), counts.episodes)
    return np.concatenate(parts, dtype=np.float64)


def _unpacked(row: npt.NDArray[np.float64], heads: int) -> RolloutCounts:
    at = np.cumsum([1, heads, heads, 3 * RETURN_WINDOW])
    stop, choice, opened, finished, episodes = np.split(row, at)
    # A row of NaN stands for no episode; NaN is the one number that does not equal itself.
    ended = (line for line in finished.reshape(-1, 3).tolist() if line[0] == line[0])
    return RolloutCounts(
        bool(stop[0]),
        choice.astype(np.int64),
        opened.astype(np.int64),
        episodes.astype(np.int64),
        tuple(Finished(int(step), int(environment), total) for step, environment, total in ended),
    )
