"""What the environments of a model report in ``info["metrics"]`` of an episode's last step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from rl_exporter.environment_metrics import EnvironmentMetrics, episode_means

_EPISODES = 100
_LOG = logging.getLogger("rl_exporter")


class ReportWindow:
    """The reports of the last 100 episodes that made one."""

    def __init__(self) -> None:
        self._metrics = EnvironmentMetrics(_LOG.warning)
        self._episodes: deque[Mapping[str, float]] = deque(maxlen=_EPISODES)

    def take(self, dones: Sequence[bool], infos: Sequence[Mapping[str, Any]]) -> None:
        """Keep the reports of the episodes that ended with a step."""
        for done, info in zip(dones, infos, strict=True):
            if done and info.get("metrics") is not None:
                self._episodes.append(self._metrics.read(info["metrics"]).numbers)

    def means(self) -> Mapping[str, float] | None:
        """The mean of each number; None before the first report."""
        return episode_means(self._episodes) if self._episodes else None
