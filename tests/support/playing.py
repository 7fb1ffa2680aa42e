"""Random play under action masks, for the tests of environments."""

import numpy as np

from rl_training.action_space import OFFSETS, SIZES

SMALL = {"samples": 64, "batch": 64, "plateau_epochs": 1, "episode_steps": 6}
"""The growing network with little data and short episodes."""


def same(one, other):
    """Whether two trajectories, sequences of arrays, are equal to the last bit."""
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def random_actions(masks, generator):
    """Uniformly random valid actions (N, H) for masks (N, Σn) or (N, operations, Σn)."""
    rows = masks[:, 0] if masks.ndim == 3 else masks
    drawn = generator.random(rows.shape)
    weights = np.where(rows, drawn, -1)
    operation = weights[:, : SIZES[0]].argmax(1)
    if masks.ndim == 3:
        weights = np.where(masks[np.arange(len(masks)), operation], drawn, -1)
    actions = np.stack([weights[:, o : o + s].argmax(1) for o, s in zip(OFFSETS, SIZES, strict=True)], 1)
    actions[:, 0] = operation
    return actions
