"""Decision masks, step masks and shares, from the masks that an environment gave."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_training.distributions import BoolArray, HeadLayout


class StepMasks(NamedTuple):
    """What the heads could do at each step; leading shape (…) as given.

    decision  (…, Σn) mask of the sampled operation
    step      (…, Σn) what any valid operation that consults a head would allow it
    choice    (…, H) the head was consulted and had two or more valid choices
    open      (…, H) some valid operation leaves the head two or more choices
    """

    decision: BoolArray
    step: BoolArray
    choice: BoolArray
    open: BoolArray


def step_masks(
    masks: BoolArray,
    operations: npt.NDArray[np.int64],
    layout: HeadLayout,
    consulted: BoolArray | None = None,
) -> StepMasks:
    """Masks (…, K, Σn), K = 1 for policies without operations, and sampled operations (…,), in one pass.

    ``consulted`` (K, H) says which operation uses which head. Without it, a head whose segment allows
    the canonical action alone counts as not consulted.
    """
    decision = np.take_along_axis(masks, operations[..., None, None], axis=-2).squeeze(-2)
    counts = layout.counts(masks)
    choice = np.take_along_axis(counts, operations[..., None, None], axis=-2).squeeze(-2) >= 2
    kinds = masks.shape[-2]
    if kinds == 1:
        return StepMasks(decision, decision, choice, choice)
    valid = masks[..., 0, :kinds]
    uses = consulted if consulted is not None else (counts > 1) | ~masks[..., layout.offsets]
    reachable = valid[..., None] & uses
    segment = np.repeat(np.arange(len(layout.sizes)), layout.sizes)
    step: BoolArray = np.any(masks & reachable[..., segment], axis=-2)
    nobody: BoolArray = ~np.any(reachable, axis=-2)
    step[..., layout.offsets] |= nobody
    opened: BoolArray = np.any(reachable & (counts >= 2), axis=-2)
    step[..., : layout.sizes[0]] = valid
    choice[..., 0] = opened[..., 0] = counts[..., 0, 0] >= 2
    return StepMasks(decision, step, choice, opened)
