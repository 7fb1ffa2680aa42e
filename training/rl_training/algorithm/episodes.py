"""The last finished episodes of a run: their returns and lengths, and what the environments report of them."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_exporter.environment_metrics import EnvironmentMetrics, episode_means
from rl_training.environments.report import Report

_LOG = logging.getLogger("rl_training")

WINDOW = 100
"""Episodes in the means that a run shows."""

NOTHING_REPORTED: Mapping[str, float] = MappingProxyType({})


class Finished(NamedTuple):
    """An episode that ended in a rollout. Tuples order by step, then environment, on every rank alike."""

    step: int
    environment: int
    """Index among the environments of all ranks."""
    episode_return: float
    length: int = 0
    """In steps."""
    metrics: Mapping[str, float] = NOTHING_REPORTED
    """What its environment reported, checked, by key."""


class Drawing(NamedTuple):
    """A drawing of what an episode led to, and the return of the episode."""

    episode_return: float
    text: str


class EpisodeReports:
    """What environments say of their episodes. Bad names and values are left out, and logged once.

    ``best`` is the drawing of the episode with the highest return, where environments draw something.
    """

    def __init__(self) -> None:
        self._metrics = EnvironmentMetrics(_LOG.warning)
        self.best: Drawing | None = None

    def take(self, report: Report | None, episode_return: float) -> Mapping[str, float]:
        """The numbers that are possible of an episode which has just ended."""
        if report is None:
            return NOTHING_REPORTED
        best = -math.inf if self.best is None else self.best.episode_return
        if report.drawing and best < episode_return < math.inf:
            self.best = Drawing(episode_return, report.drawing)
        return NOTHING_REPORTED if report.metrics is None else self._metrics.read(report.metrics).numbers


class EpisodeWindow:
    """The last ``WINDOW`` finished episodes, and what they show. Every number is None before the first.

    An episode whose return is not finite would make every mean over it so: it stays out, and the log says so
    once.
    """

    def __init__(self) -> None:
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._lengths: deque[int] = deque(maxlen=WINDOW)
        self._metrics: deque[Mapping[str, float]] = deque(maxlen=WINDOW)
        self._means: Mapping[str, float] | None = None
        self._said = False

    def look_at(self, rewards: npt.NDArray[np.float32]) -> None:
        """Warn, once, of a reward that is not finite: its episode may not end for long."""
        if not np.isfinite(rewards).all():
            self._warn()

    def _warn(self) -> None:
        if not self._said:
            self._said = True
            _LOG.warning(
                "a reward of the environment is not finite: the update that it belongs to is skipped, and its "
                "episode stays out of the mean return; give finite rewards. Later ones are not mentioned"
            )

    def extend(self, finished: Iterable[Finished]) -> None:
        """Add episodes in the order of their end."""
        for episode in finished:
            if not math.isfinite(episode.episode_return):
                self._warn()
                continue
            self._returns.append(episode.episode_return)
            self._lengths.append(episode.length)
            self._metrics.append(episode.metrics)
            self._means = None

    @property
    def episode_return(self) -> float | None:
        """Mean return."""
        return fmean(self._returns) if self._returns else None

    @property
    def episode_length(self) -> float | None:
        """Mean length in steps."""
        return fmean(self._lengths) if self._lengths else None

    @property
    def metrics(self) -> Mapping[str, float] | None:
        """Mean of each number that environments report; see ``episode_means``."""
        if self._means is None and self._metrics:
            self._means = MappingProxyType(episode_means(self._metrics))
        return self._means

    def state(self) -> dict[str, list[Any]]:
        """What a checkpoint keeps."""
        return {
            "returns": list(self._returns),
            "lengths": list(self._lengths),
            "metrics": [dict(numbers) for numbers in self._metrics],
        }

    def restore(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Continue from ``state``. Checkpoints of former versions have neither lengths nor metrics."""
        # They kept any returns, too.
        self._returns.extend(filter(math.isfinite, state["returns"]))
        self._lengths.extend(state.get("lengths", ()))
        self._metrics.extend(state.get("metrics", ()))
        self._means = None
