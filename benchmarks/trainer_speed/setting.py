"""What is measured: the same setting for the trainer and its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from rl_training.config import PPOConfig, RunConfig


@dataclass(frozen=True, slots=True)
class Setting:
    """Sizes of one comparison, by default those of ``rl-train``; ``units`` wide."""

    units: int
    environments: int = RunConfig().num_envs
    rollout_steps: int = PPOConfig().rollout_steps
    epochs: int = PPOConfig().epochs
    minibatches: int = PPOConfig().minibatches

    @property
    def steps(self) -> int:
        """Environment steps of one update."""
        return self.environments * self.rollout_steps


class Cost(NamedTuple):
    """CPU seconds of some updates."""

    rollout: float
    update: float

    @property
    def whole(self) -> float:
        """Both together."""
        return self.rollout + self.update
