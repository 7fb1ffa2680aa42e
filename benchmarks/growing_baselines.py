"""Baseline policies that do not learn: always WAIT, uniformly random, and scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from benchmarks.growing_scripts import WAIT, Script, decide
from rl_training.action_space import OFFSETS, SIZES
from rl_training.environments.growing.environment import Actions, GrowingNetworkEnv

Policy = Callable[[GrowingNetworkEnv, int], Actions]
"""From an environment and the number of steps since the start of its episode to an action."""


def always_wait(_env: GrowingNetworkEnv, _step: int) -> Actions:
    """Leave the host alone."""
    return np.array(WAIT)


def uniform_random(generator: np.random.Generator) -> Policy:
    """Choose uniformly among the valid operations, then among the valid actions of each head."""

    def policy(env: GrowingNetworkEnv, _step: int) -> Actions:
        masks = env.action_masks()
        operation = generator.choice(np.flatnonzero(masks[0, : SIZES[0]]))
        row = masks[operation]
        rest = [
            generator.choice(np.flatnonzero(row[begin : begin + size]))
            for begin, size in zip(OFFSETS[1:], SIZES[1:], strict=True)
        ]
        return np.array([operation, *rest])

    return policy


def follow(script: Script) -> Policy:
    """Do what the script says."""

    def policy(env: GrowingNetworkEnv, step: int) -> Actions:
        return np.array(decide(script, env.slots, step))

    return policy


def returns(policy: Policy, env: GrowingNetworkEnv, seeds: Iterable[int]) -> list[float]:
    """The return of one episode for each seed."""
    found = []
    for seed in seeds:
        env.reset(seed=seed)
        total, over, step = 0.0, False, 0
        while not over:
            _, reward, over, _, _ = env.step(policy(env, step))
            total += reward
            step += 1
        found.append(total)
    return found
