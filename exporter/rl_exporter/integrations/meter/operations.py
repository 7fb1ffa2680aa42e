"""Policies that sample an operation first: which head it consults, and what it leaves the head to choose."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.consulting import Consulting, Operations
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.uploads import upload


class OperationLayout(NamedTuple):
    """``Operations`` with indices of a layout, on its device."""

    head: int
    number: int
    """K"""
    consult: Tensor | None
    """(K, H) bool"""

    @classmethod
    def of(cls, operations: Operations | None, layout: HeadLayout) -> OperationLayout | None:
        """Raises ValueError for heads that do not exist and operations that are not described."""
        if operations is None:
            return None
        head, number, used = Consulting.of(operations, layout)
        return cls(head, number, None if used is None else upload(used, layout.segment.device))

    def sampled(self, actions: Tensor) -> Tensor:
        """The operation of each step, (S,), from actions (H, S)."""
        # Padding may hold any action; as an index it would be an error, which on a GPU ends the program.
        return actions[self.head].clamp(0, self.number - 1)


class StepMasks(NamedTuple):
    """What the heads could do at each of S steps."""

    decision: Tensor
    """(Σn, S) under the sampled operation."""
    step: Tensor
    """(Σn, S) what any valid operation that consults a head would allow it; without operations the same."""
    choice: Tensor
    """(H, S) the head decided something."""
    open: Tensor
    """(H, S) some valid operation would have let the head decide."""


def masks_of_columns(decision: Tensor, consulted: Tensor | None, layout: HeadLayout) -> StepMasks:
    """From decision masks (Σn, S) alone; ``consulted`` (H, S): the sampled operation uses the head."""
    opened = _counts(decision, layout) >= 2
    return StepMasks(decision, decision, opened if consulted is None else opened & consulted, opened)


def masks_of_actions(
    masks: Tensor, actions: Tensor, operations: OperationLayout | None, layout: HeadLayout
) -> StepMasks:
    """From masks (S, Σn), or (S, K, Σn) by operation, and the sampled actions (H, S)."""
    if operations is None:
        return masks_of_columns(masks.T, None, layout)
    sampled = operations.sampled(actions)
    if masks.ndim > 2:
        return masks_of_operations(masks, sampled, operations, layout)
    used = None if operations.consult is None else operations.consult[sampled].T
    return masks_of_columns(masks.T, used, layout)


def masks_of_operations(
    masks: Tensor, sampled: Tensor, operations: OperationLayout, layout: HeadLayout
) -> StepMasks:
    """From masks (S, K, Σn), whose row k holds if the operation is k, and the sampled operation (S,)."""
    columns = masks.movedim(-1, 0)  # (Σn, S, K)
    counts = _counts(columns, layout)  # (H, S, K)
    index = sampled.reshape(1, -1, 1)
    decision = columns.gather(2, index.expand(layout.total, -1, 1)).squeeze(2)
    valid = masks[:, 0, layout.slices[operations.head]]  # (S, K)
    if operations.consult is None:
        uses = (counts > 1) | ~columns[layout.first]
    else:
        uses = operations.consult.T.unsqueeze(1).expand(-1, len(masks), -1)
    reachable = uses & valid  # (H, S, K)
    step = (columns & layout.spread(reachable)).any(2)
    # A step mask must allow something; the canonical action alone has an entropy of exactly 0.
    step[layout.first] |= ~reachable.any(2)
    step[layout.slices[operations.head]] = valid.T
    several = counts >= 2
    choice = (several & uses).gather(2, index.expand(len(counts), -1, 1)).squeeze(2)
    opened = (reachable & several).any(2)
    # The policy samples the operation first, so its own head does not depend on the operation.
    opened[operations.head] = choice[operations.head] = several[operations.head, :, 0]
    return StepMasks(decision, step, choice, opened)


def _counts(columns: Tensor, layout: HeadLayout) -> Tensor:
    """Valid choices of each head: (Σn, …) bool to (H, …)."""
    return layout.sums(columns.to(torch.int32))
