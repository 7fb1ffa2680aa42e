"""What happened in a rollout, counted in one rank's environments and then in all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rl_training.ranks import Ranks

RETURN_WINDOW = 100
"""Episodes that the mean return looks back over."""

Counts = npt.NDArray[np.int64]


class Finished(NamedTuple):
    """An episode that ended in a rollout: at which step, in which of all environments, with which return."""

    step: int
    environment: int
    episode_return: float


class RolloutCounts(NamedTuple):
    """Counts of one rank, over its n environments, or of all ranks, over all N.

    stop      somebody wants the run to stop; the rest then says nothing
    choice    (H,) choice steps of the rollout
    open      (H,) open steps
    episodes  (n,) or (N,) episodes that each environment has finished since the start of the run
    finished  those that ended in this rollout, in the order of their end, the last RETURN_WINDOW at most
    """

    stop: bool
    choice: Counts
    open: Counts
    episodes: Counts
    finished: tuple[Finished, ...]


def pool(tally: RolloutCounts, ranks: Ranks) -> RolloutCounts:
    """The tally of all ranks together, the same on each. Raises RankLostError.

    A wish to stop counts only when every rank, asked again, is still there: a launcher that lost one rank
    tells the others to stop, and that run has failed.
    """
    row = torch.from_numpy(_row(tally))
    heads = len(tally.choice)
    parts = [_tally(part.numpy(), heads) for part in ranks.gather(row)]
    if stop := any(part.stop for part in parts):
        ranks.gather(row)
    finished = sorted(episode for part in parts for episode in part.finished)
    return RolloutCounts(
        stop,
        sum((part.choice for part in parts), np.zeros(heads, np.int64)),
        sum((part.open for part in parts), np.zeros(heads, np.int64)),
        np.concatenate([part.episodes for part in parts]),
        tuple(finished[-RETURN_WINDOW:]),
    )


def _row(tally: RolloutCounts) -> npt.NDArray[np.float64]:
    """A row of the same length on every rank; float64 holds all of these counts exactly."""
    finished = np.full((RETURN_WINDOW, 3), np.nan)
    if tally.finished:
        finished[: len(tally.finished)] = tally.finished
    parts = ([tally.stop], tally.choice, tally.open, finished.ravel(), tally.episodes)
    return np.concatenate(parts, dtype=np.float64)


def _tally(row: npt.NDArray[np.float64], heads: int) -> RolloutCounts:
    at = np.cumsum([1, heads, heads, 3 * RETURN_WINDOW])
    stop, choice, opened, finished, episodes = np.split(row, at)
    ended = (line for line in finished.reshape(-1, 3).tolist() if line[0] == line[0])
    return RolloutCounts(
        bool(stop[0]),
        choice.astype(np.int64),
        opened.astype(np.int64),
        episodes.astype(np.int64),
        tuple(Finished(int(step), int(environment), total) for step, environment, total in ended),
    )
