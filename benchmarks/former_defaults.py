"""Settings at which heads still collapse by themselves: former defaults of the trainer, and short runs."""

from __future__ import annotations

from dataclasses import replace

from rl_training.config import PPOConfig

FORMER = PPOConfig(
    rollout_steps=12,
    minibatches=4,
    learning_rate=3e-4,
    learning_rate_schedule="constant",
    entropy_schedule="constant",
    critic="shared",
)
"""The defaults of former versions: runs get stuck, and without schedules a late collapse shows."""

SHORT = replace(FORMER, rollout_steps=32, epochs=4, gamma=0.5, learning_rate=5e-3)
"""Runs of few seconds that learn fast, or collapse fast."""
