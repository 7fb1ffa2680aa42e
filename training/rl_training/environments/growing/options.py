"""The arguments of the growing-network environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl_training.config import option
from rl_training.setting_kinds import Natural, Positive, Rate, Share


@dataclass(frozen=True, slots=True)
class GrowingOptions:
    """Arguments of the ``growing-network`` environment; the metadata of each field explains it."""

    episode_steps: Positive = field(default=28, metadata=option("longest episode; one host epoch a step"))
    samples: Positive = field(default=256, metadata=option("training images of one host epoch"))
    batch: Positive = field(default=64, metadata=option("images of one batch"))
    plateau_epochs: Natural = field(
        default=50, metadata=option("epochs that the host has trained alone before an episode")
    )
    host_learning_rate: Rate = field(default=0.003, metadata=option("step size of Adam for the host"))
    module_learning_rate: Rate = field(default=0.02, metadata=option("step size of Adam for what is grown"))
    rent: Share = field(
        default=0.0003, metadata=option("cost a step of grown parameters, relative to those of the host")
    )
    reward_scale: Rate = field(default=10.0, metadata=option("factor on the reward"))
    workers: Natural = field(
        default=2, metadata=option("processes that share the environments; 0: inside the trainer")
    )
