"""What environments report to the exporter, and the exporter to the logger of a model."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.logger import Logger

from rl_exporter.environment_metrics import EnvironmentMetrics, episode_means
from rl_exporter.heads import Heads
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement

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


def log_heads(logger: Logger, measured: Mapping[str, HeadMeasurement], heads: Heads) -> None:
    """Give the numbers of each head to the model's logger, as ``heads/<name>/<number>``."""
    for head in heads:
        found = measured.get(head.name)
        if found is None:
            continue
        for number in attributes(HeadNumbers):
            value = getattr(found, number.name)
            if value is not None:
                logger.record(f"heads/{head.name}/{number.name}", value)
        if found.entropy is not None:
            logger.record(f"heads/{head.name}/normalized_entropy", head.normalize(found.entropy))
