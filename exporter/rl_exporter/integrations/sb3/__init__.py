"""Stable-Baselines3: the entropy of every action head of PPO, A2C and MaskablePPO, from one callback."""

from rl_exporter.integrations.sb3.callback import HeadEntropyCallback

__all__ = ["HeadEntropyCallback"]
