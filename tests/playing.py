"""Random play under action masks, for the tests of environments."""

import numpy as np

from rl_training.environments.tables import OFFSETS, SIZES


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
