"""What a model logs and its environments report, and what the exporter gives to the logger of the model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from stable_baselines3.common.logger import HumanOutputFormat, Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_exporter.environment_metrics import EnvironmentMetrics, episode_means
from rl_exporter.heads import Heads
from rl_exporter.log import exporter_log
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement

_LOGGED = {
    "kl_divergence": ("train/approx_kl",),
    "clipped_share": ("train/clip_fraction",),
    "policy_loss": ("train/policy_gradient_loss", "train/policy_loss"),
    "value_loss": ("train/value_loss",),
    "explained_variance": ("train/explained_variance",),
    "learning_rate": ("train/learning_rate",),
}
"""Payload fields and the names under which PPO, A2C and MaskablePPO log them."""

_FACTORS = {"value_loss": 0.5}
"""They log the whole squared error of the value estimates; rl_value_loss is half of it."""

_EPISODES = 100
_INDENT, _CUT = "   ", "..."
"""In a table: before a number, below the name of its group, and after a name that was cut off."""
_LOG = exporter_log()


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
    """Give the numbers of each head to the model's logger, as ``heads/<name>/<number>``.

    Its tables cut long names off, and end the training where two become equal: there, the second is left out.
    """
    widths = [one.max_length for one in logger.output_formats if isinstance(one, HumanOutputFormat)]
    kept = min(widths, default=0) - len(_INDENT) - len(_CUT)
    shown: set[str] = set()

    def record(head: str, number: str, value: float | None) -> None:
        name = f"{head}/{number}"
        exclude = ("stdout", "log") if name[:kept] in shown and len(name) > kept else None
        shown.add(name[:kept])
        logger.record(f"heads/{name}", value, exclude=exclude)

    for head in heads:
        found = measured.get(head.name)
        if found is None:
            continue
        for number in attributes(HeadNumbers):
            value = getattr(found, number.name)
            if value is not None:
                record(head.name, number.name, value)
        if found.entropy is not None:
            record(head.name, "normalized_entropy", head.normalize(found.entropy))


def episode_mean(model: OnPolicyAlgorithm, key: str) -> float | None:
    """Mean return or length of the last episodes; None before the first, or without a Monitor wrapper."""
    episodes = model.ep_info_buffer
    return fmean(episode[key] for episode in episodes) if episodes else None


def logged_numbers(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """What the model logged of this update: means over its minibatches, an aborted epoch included."""
    logged = model.logger.name_to_value
    found = {
        field: _FACTORS.get(field, 1.0) * float(logged[key])
        for field, keys in _LOGGED.items()
        for key in keys
        if key in logged
    }
    if math.isnan(found.get("explained_variance", 0.0)):
        # The model's word for returns that do not vary: there is no share to explain.
        del found["explained_variance"]
    return found
