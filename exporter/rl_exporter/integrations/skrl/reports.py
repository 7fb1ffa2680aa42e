"""What an agent of skrl knows of its rollout and tracks of its losses."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean
from typing import Any

from rl_exporter.integrations.minibatches import DeviceMeans

EPISODES = 100
"""At most so many of the last finished episodes count."""

_TRACKED = {"episode_return": "_track_rewards", "episode_length": "_track_timesteps"}
"""Where an agent keeps finished episodes until it writes its tracking data; empty with ``write_interval=0``."""


class EpisodeHistory:
    """The last finished episodes of an agent, which itself forgets them whenever it writes."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._kept: dict[str, deque[float]] = {name: deque(maxlen=EPISODES) for name in _TRACKED}

    def keep(self) -> None:
        """The agent forgets its episodes next."""
        for name, kept in self._kept.items():
            kept.extend(self._present(name))

    def means(self) -> dict[str, float]:
        """Mean return and length."""
        every = {name: [*kept, *self._present(name)][-EPISODES:] for name, kept in self._kept.items()}
        return {name: fmean(values) for name, values in every.items() if values}

    def _present(self, name: str) -> list[float]:
        # The rewards of an environment are a row of one.
        return [fmean(one) if isinstance(one, list) else one for one in getattr(self._agent, _TRACKED[name])]


def add_rollout(numbers: DeviceMeans, agent: Any) -> None:
    """Episodes that ended in the last rollout, and how far the values explained its returns, on the device."""
    memory = agent.memory
    ended = memory.get_tensor_by_name("terminated") | memory.get_tensor_by_name("truncated")
    numbers.add("episodes", ended.sum())
    if agent.cfg.value_preprocessor is None:
        # A preprocessor scales values and returns differently.
        returns, values = (memory.get_tensor_by_name(name) for name in ("returns", "values"))
        numbers.add("explained_variance", 1 - (returns - values).var() / returns.var())


def checked(numbers: dict[str, float]) -> dict[str, Any]:
    """What the host read of ``add_rollout``: whole episodes, and no explained variance of equal returns."""
    found: dict[str, Any] = {**numbers, "episodes": int(numbers.get("episodes", 0))}
    if not math.isfinite(numbers.get("explained_variance", 0.0)):
        del found["explained_variance"]
    return found


def losses(agent: Any, optimizer_steps: int) -> dict[str, float]:
    """Mean losses over the optimiser steps, and the entropy coefficient."""
    cfg = agent.cfg
    found = {"entropy_coefficient": cfg.entropy_loss_scale}
    if optimizer_steps:
        # The agent divides by all minibatches, also by those that KL divergence left out.
        share = getattr(cfg, "learning_epochs", 1) * cfg.mini_batches / optimizer_steps
        found["policy_loss"] = share * agent.tracking_data["Loss / Policy loss"][-1]
        scale = getattr(cfg, "value_loss_scale", 1.0)
        if scale:
            # The agent has the whole squared error.
            found["value_loss"] = share * agent.tracking_data["Loss / Value loss"][-1] / (2 * scale)
    return found
