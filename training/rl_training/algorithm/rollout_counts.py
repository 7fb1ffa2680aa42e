"""Counts of a rollout, first in one rank's environments and then in those of all ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rl_training.algorithm.episodes import NOTHING_REPORTED, WINDOW, Finished
from rl_training.ranks import Ranks

Counts = npt.NDArray[np.int64]

_COLUMNS = 4
"""Numbers that every finished episode has: all of its fields but the last."""


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
    """Episodes that ended in this rollout, in the order of their end, the last WINDOW at most."""


def counts_of_all_ranks(own: RolloutCounts, ranks: Ranks) -> RolloutCounts:
    """The counts of all ranks together, the same on each rank. Raises RankLostError."""
    reports = _reports(own.finished)
    row = torch.from_numpy(_packed(own, len(reports)))
    heads = len(own.choice)
    rows = ranks.gather(row).numpy()
    parts = [_unpacked(part[:-1], heads) for part in rows]
    stop = any(part.stop for part in parts)
    if stop:
        # A launcher that lost one rank tells the others to stop, but that run has failed rather than been
        # interrupted. A second exchange tells the two apart: it raises when a rank has died.
        ranks.gather(row)
    finished = sorted(episode for part in parts for episode in part.finished)
    if not stop:
        finished = _with_reports(finished, reports, int(rows[:, -1].max()), ranks)
    return RolloutCounts(
        stop,
        sum((part.choice for part in parts), np.zeros(heads, np.int64)),
        sum((part.open for part in parts), np.zeros(heads, np.int64)),
        np.concatenate([part.episodes for part in parts]),
        tuple(finished[-WINDOW:]),
    )


def _reports(finished: Sequence[Finished]) -> bytes:
    """What environments report of these episodes, for the other ranks; empty without anything."""
    reports = [(one.step, one.environment, dict(one.metrics)) for one in finished if one.metrics]
    return json.dumps(reports).encode() if reports else b""


def _with_reports(finished: list[Finished], own: bytes, longest: int, ranks: Ranks) -> list[Finished]:
    """The episodes with what their environments report. ``own`` reports of this rank, ``longest`` of any."""
    # Every rank knows the length, so that all make this exchange or none.
    if not longest:
        return finished
    texts = ranks.gather(torch.frombuffer(bytearray(own.ljust(longest)), dtype=torch.uint8)).numpy()
    reports = (report for text in texts for report in json.loads(text.tobytes().strip() or b"[]"))
    metrics = {(step, environment): numbers for step, environment, numbers in reports}
    return [one._replace(metrics=metrics.get(one[:2], NOTHING_REPORTED)) for one in finished]


def _packed(counts: RolloutCounts, reports: int = 0) -> npt.NDArray[np.float64]:
    """One flat row, as long on every rank, the bytes of its reports last; float64 holds all of it exactly."""
    finished = np.full((WINDOW, _COLUMNS), np.nan)
    if counts.finished:
        finished[: len(counts.finished)] = [episode[:_COLUMNS] for episode in counts.finished]
    parts = ([counts.stop], counts.choice, counts.open, finished.ravel(), counts.episodes, [reports])
    return np.concatenate(parts, dtype=np.float64)


def _unpacked(row: npt.NDArray[np.float64], heads: int) -> RolloutCounts:
    at = np.cumsum([1, heads, heads, _COLUMNS * WINDOW])
    stop, choice, opened, finished, episodes = np.split(row, at)
    # A row of NaN stands for no episode; NaN is the one number that does not equal itself.
    ended = (line for line in finished.reshape(-1, _COLUMNS).tolist() if line[0] == line[0])
    return RolloutCounts(
        bool(stop[0]),
        choice.astype(np.int64),
        opened.astype(np.int64),
        episodes.astype(np.int64),
        tuple(Finished(int(step), int(place), total, int(length)) for step, place, total, length in ended),
    )
