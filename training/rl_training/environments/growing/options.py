"""The arguments of the growing-network environment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GrowingOptions:
    """Arguments of the ``growing-network`` environment.

    ``episode_steps``: longest episode. ``samples``: training images of one host epoch, one epoch a step.
    ``batch``: images of one batch. ``plateau_epochs``: epochs that the host has trained alone before an
    episode. ``host_learning_rate``, ``module_learning_rate``: of Adam. ``rent``: what a grown parameter
    costs a step, relative to the parameters of the host. ``reward_scale``: factor on the reward.
    ``workers``: processes that share the environments; 0 runs them inside the trainer.
    """

    episode_steps: int = 28
    samples: int = 256
    batch: int = 64
    plateau_epochs: int = 50
    host_learning_rate: float = 0.003
    module_learning_rate: float = 0.02
    rent: float = 0.0003
    reward_scale: float = 10.0
    workers: int = 2
