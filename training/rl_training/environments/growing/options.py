"""The arguments of the growing-network environment."""

from __future__ import annotations

from dataclasses import dataclass

from rl_training.config import Natural, Positive, Rate, Share


@dataclass(frozen=True, slots=True)
class GrowingOptions:
    """Arguments of the ``growing-network`` environment.

    ``episode_steps``: longest episode. ``samples``: training images of one host epoch, one epoch a step.
    ``batch``: images of one batch. ``plateau_epochs``: epochs that the host has trained alone before an
    episode. ``host_learning_rate``, ``module_learning_rate``: of Adam. ``rent``: what a grown parameter
    costs a step, relative to the parameters of the host. ``reward_scale``: factor on the reward.
    ``workers``: processes that share the environments; 0 runs them inside the trainer.
    """

    episode_steps: Positive = 28
    samples: Positive = 256
    batch: Positive = 64
    plateau_epochs: Natural = 50
    host_learning_rate: Rate = 0.003
    module_learning_rate: Rate = 0.02
    rent: Share = 0.0003
    reward_scale: Rate = 10.0
    workers: Natural = 2
