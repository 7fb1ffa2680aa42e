"""What the heads could do at each step: under one mask, or under that of the sampled operation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.consulting import Consulting
from rl_exporter.integrations.meter.segments import BoolArray
from rl_exporter.integrations.numpy.layout import HeadLayout


class StepMasks(NamedTuple):
    """What the heads could do at each of S steps."""

    decision: BoolArray
    """(S, Σn) under the sampled operation."""
    step: BoolArray
    """(S, Σn) what any valid operation that consults a head would allow it; without operations the same."""
    choice: BoolArray
    """(S, H) the head decided something."""
    open: BoolArray
    """(S, H) some valid operation would have let the head decide."""


def masks_of_rows(masks: BoolArray, consulted: BoolArray | None, layout: HeadLayout) -> StepMasks:
    """From decision masks (S, Σn) alone; ``consulted`` (S, H): the sampled operation uses the head."""
    opened = layout.counts(masks) >= 2
    return StepMasks(masks, masks, opened if consulted is None else opened & consulted, opened)


def masks_of_operations(
    masks: BoolArray, sampled: npt.NDArray[np.int64], operations: Consulting, layout: HeadLayout
) -> StepMasks:
    """From masks (S, K, Σn), whose row k holds if the operation is k, and the sampled operation (S,)."""
    steps, own = np.arange(len(masks)), layout.slices[operations.head]
    counts = layout.counts(masks)  # (S, K, H)
    valid = masks[:, 0, own]  # (S, K)
    uses: BoolArray = (
        (counts > 1) | ~masks[..., layout.offsets] if operations.consult is None else operations.consult
    )
    reachable = uses & valid[:, :, None]  # (S, K, H)
    step: BoolArray = np.any(masks & layout.spread(reachable), axis=1)
    # A step mask must allow something; the canonical action alone has an entropy of exactly 0.
    step[:, layout.offsets] |= ~reachable.any(1)
    step[:, own] = valid
    several = counts >= 2
    choice: BoolArray = (several & uses)[steps, sampled]
    opened: BoolArray = np.any(reachable & several, axis=1)
    # The policy samples the operation first, so its own head does not depend on the operation.
    opened[:, operations.head] = choice[:, operations.head] = several[:, 0, operations.head]
    return StepMasks(masks[steps, sampled], step, choice, opened)


def sampled_operations(
    actions: npt.NDArray[np.int64], counted: BoolArray, operations: Consulting, layout: HeadLayout
) -> npt.NDArray[np.int64]:
    """The operation of each step, (S,); the first one for padding. Raises ValueError for one that is none."""
    sampled = np.where(counted, actions[:, operations.head], 0)
    wrong = (sampled < 0) | (sampled >= operations.number)
    if wrong.any():
        raise ValueError(
            f"actions of head {layout.names[operations.head]!r} hold {sampled[wrong][0]}, but the head has "
            f"{operations.number} choices"
        )
    return sampled
