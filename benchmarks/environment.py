"""Measures steps per second of the vector environment ``heads`` against a SyncVectorEnv of single ones."""

from __future__ import annotations

import statistics
import time

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_training.environments.heads.environment import HeadsEnv, HeadsVectorEnv

ENVIRONMENTS = 8
ROUNDS = 7


def native(consult: str, steps: int) -> float:
    """Steps per second of our vector environment."""
    env = HeadsVectorEnv(ENVIRONMENTS, consult=consult)
    env.reset(seed=0)
    actions = np.zeros((ENVIRONMENTS, 8), dtype=np.int64)
    started = time.process_time()
    for _ in range(steps):
        env.action_masks()
        env.step(actions)
    return ENVIRONMENTS * steps / (time.process_time() - started)


def peer(consult: str, steps: int) -> float:
    """Steps per second of single environments in Gymnasium's SyncVectorEnv."""
    env = SyncVectorEnv(
        [lambda: HeadsEnv(consult=consult)] * ENVIRONMENTS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    env.reset(seed=0)
    actions = np.zeros((ENVIRONMENTS, 8), dtype=np.int64)
    started = time.process_time()
    for _ in range(steps):
        np.stack([single.unwrapped.action_masks() for single in env.envs])
        env.step(actions)
    return ENVIRONMENTS * steps / (time.process_time() - started)


def main() -> None:
    """Print medians of alternating rounds, so that a slow phase of the machine affects both."""
    for consult in ("all", "table"):
        rounds = [(native(consult, 4000), peer(consult, 400)) for _ in range(ROUNDS)]
        ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"heads, consult={consult:5}  {ours:9.0f} steps/s")
        print(f"peer: SyncVectorEnv   {theirs:9.0f} steps/s  {ours / theirs:8.1f} x slower")


if __name__ == "__main__":
    main()
