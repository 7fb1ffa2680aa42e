"""The trainer's settings, with the defaults of the literature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOConfig:
    """Settings of PPO (Schulman et al. 2017, arXiv:1707.06347)."""

    rollout_steps: int = 64
    epochs: int = 8
    minibatches: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_coefficient: float = 0.01
    value_coefficient: float = 0.5
    max_gradient_norm: float = 0.5
    target_kl: float = 0.2
    hidden: int = 64
    telemetry: bool = True
