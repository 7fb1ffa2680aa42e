"""Whether all that a loop hands to a meter lists its steps in one order, as far as shapes tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_exporter.integrations.meter.segments import Segments

Shape = tuple[int, ...]

_NO_AXES: Shape = ()
_OF_LOGITS = frozenset({"logits", "masks"})
_BY_HEAD = frozenset({"actions", "consulted", "log_probs", "old_log_probs"})


def require_one_order(given: Mapping[str, Any], segments: Segments, operations: int = 1) -> None:
    """Raise ValueError where two of the arguments of ``add`` or ``add_rollout`` have other axes of steps.

    Swapped axes hold as many numbers, but each would count at another step. One flat axis goes with any others,
    and an axis of length 1 is none. ``given``: what is None, or a nested tensor, says nothing; the first is
    logits, or in a rollout advantages.
    """
    first, axes = "", _NO_AXES
    steps: int | None = None
    for what, value in given.items():
        if value is None or getattr(value, "is_nested", False):
            continue
        for shape in _axes(what, value, segments, steps, operations):
            steps = math.prod(shape) if steps is None else steps
            several = tuple(length for length in shape if length != 1)
            if len(several) < 2:
                continue
            if axes and several != axes:
                raise ValueError(
                    f"{what} are of steps {several}, {first} of {axes}; give all axes in one order"
                )
            first, axes = what, several


def _axes(what: str, value: Any, segments: Segments, steps: int | None, operations: int) -> Sequence[Shape]:
    """The axes of steps: of one array, or of each head's own."""
    parts = segments.parts_of(value, what) if what in _OF_LOGITS else None
    if parts is not None:
        return [_shape(part)[:-1] for part in parts]
    shape = _shape(value)
    if what in _BY_HEAD:
        # Log-probabilities may be of all heads together, (…).
        return [shape if math.prod(shape) == steps else shape[:-1]]
    if what not in _OF_LOGITS:
        return [shape]
    if shape[-1:] != (segments.total,):
        return [shape[:-2]]  # padded, (…, H, widest head)
    by_operation = operations > 1 and math.prod(shape[:-1]) != steps
    return [shape[:-2] if by_operation and what == "masks" else shape[:-1]]


def _shape(value: Any) -> Shape:
    """Of an array, a list of numbers, or a distribution."""
    array = value if hasattr(value, "shape") else getattr(value, "logits", value)
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)
