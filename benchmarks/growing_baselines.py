"""Baseline policies that do not learn: always WAIT, uniformly random, and a fixed schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from rl_training.action_space import OFFSETS, SIZES, AlphaTarget, Blueprint, Operation, Slot, Style, Tempo
from rl_training.environments.growing.environment import Actions, GrowingNetworkEnv
from rl_training.environments.growing.lifecycle import Decision, Stage, is_legal

Policy = Callable[[GrowingNetworkEnv], Actions]

TRAINING_STEPS = 3
"""Steps that the fixed schedule trains a module before it joins the host with full weight."""


def always_wait(_env: GrowingNetworkEnv) -> Actions:
    """Leave the host alone."""
    return np.array(Decision(Operation.WAIT))


def uniform_random(generator: np.random.Generator) -> Policy:
    """Choose uniformly among the valid operations, then among the valid actions of each head."""

    def policy(env: GrowingNetworkEnv) -> Actions:
        masks = env.action_masks()
        operation = generator.choice(np.flatnonzero(masks[0, : SIZES[0]]))
        row = masks[operation]
        rest = [
            generator.choice(np.flatnonzero(row[begin : begin + size]))
            for begin, size in zip(OFFSETS[1:], SIZES[1:], strict=True)
        ]
        return np.array([operation, *rest])

    return policy


def fixed_schedule(env: GrowingNetworkEnv) -> Actions:
    """Grow a depthwise convolution in each slot, last slot first, and give it full weight when trained."""
    for slot in reversed(Slot):
        state = env.slots[slot]
        trained = state.stage is Stage.TRAINING and state.stage_age >= TRAINING_STEPS - 1
        if trained or state.stage is Stage.BLENDING:
            return np.array(Decision(Operation.ADVANCE, slot))
        if is_legal(env.slots, Operation.GERMINATE, slot):
            grow = (Blueprint.DEPTHWISE, Style.LINEAR_ADD, Tempo.FAST, AlphaTarget.FULL)
            return np.array(Decision(Operation.GERMINATE, slot, *grow))
    return always_wait(env)


def returns(policy: Policy, env: GrowingNetworkEnv, seeds: Iterable[int]) -> list[float]:
    """The return of one episode for each seed."""
    found = []
    for seed in seeds:
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, over, _, _ = env.step(policy(env))
            total += reward
        found.append(total)
    return found
