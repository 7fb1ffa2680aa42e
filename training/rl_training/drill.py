"""The options of ``make drill``: blueprint is paid for one action and gets no entropy bonus."""

from __future__ import annotations

_SHARED = ("--env", "heads", "--num-envs", "8", "--rollout-steps", "64")

DRILL = (
    *(*_SHARED, "--env-arg", "paid_head=blueprint", "--env-arg", "single_action=true"),
    *("--learning-rate", "1e-3", "--entropy-coef", "0.05", "--entropy-multiplier", "blueprint=0"),
    *("--updates", "40", "--run-id", "drill"),
)
"""A real collapse of one head."""

HEALTHY_TWIN = (
    *(*_SHARED, "--env-arg", "noise=20", "--learning-rate", "3e-4", "--entropy-coef", "0.1"),
    *("--gamma", "0.9", "--updates", "40", "--run-id", "healthy-twin"),
)
"""The same length of run without a collapse."""
