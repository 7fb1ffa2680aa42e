"""What a loop hands to a meter, as flat rows: the forms and the error lines of the meter for PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.segments import BoolArray
from rl_exporter.integrations.meter.sums import FloatArray
from rl_exporter.integrations.numpy.layout import HeadLayout

AnyArray = npt.NDArray[Any]


@runtime_checkable
class WithLogits(Protocol):
    """A distribution over actions, such as ``distrax.Categorical``."""

    @property
    def logits(self) -> Any:
        """(…, n) logits or log-probabilities."""


PerHead = npt.ArrayLike | WithLogits | Sequence[npt.ArrayLike | WithLogits] | Mapping[str, Any]
"""Logits or masks of all heads.

One array (…, Σn); one padded (…, H, widest head); or one (…, n) for each head, in order or by name. Arrays are
those of NumPy, or anything with ``__array__``, such as ``jax.Array``.
"""


def logit_rows(given: PerHead, layout: HeadLayout) -> FloatArray:
    """Logits (S, Σn) of S steps, float64. Raises TypeError or ValueError with head and shape."""
    rows = _rows(given, layout, "logits")
    if not _is_floating(rows):
        raise TypeError(f"logits are {rows.dtype.name}; give floating-point logits or log-probabilities")
    return rows.astype(np.float64)


def mask_rows(given: PerHead, layout: HeadLayout, steps: int, operations: int = 1) -> BoolArray:
    """Masks (S, Σn) bool, or (S, K, Σn) for K > 1 operations. Raises as ``logit_rows``."""
    shape = tuple(getattr(given, "shape", ()))
    # Else it has as many steps as there are operations, and one row for each.
    by_operation = operations > 1 and math.prod(shape[:-1]) != steps
    if by_operation and shape[-2:] == (operations, layout.total):
        masks = array_of(given, "masks").reshape(-1, operations, layout.total)
    else:
        masks = _rows(given, layout, "masks")
    if masks.dtype.kind not in "biu":
        raise TypeError(f"masks are {masks.dtype.name}; give booleans, True where an action is valid")
    if len(masks) not in (1, steps):
        raise ValueError(f"masks are of {len(masks)} steps, logits of {steps}; give one mask for each step")
    allowed: BoolArray = np.broadcast_to(masks != 0, (steps, *masks.shape[1:]))
    return allowed


def step_values(given: npt.ArrayLike, steps: int, what: str, heads: int | None = None) -> AnyArray:
    """A number for each step, (S,), or for each step and head, (S, H). Raises TypeError or ValueError."""
    values = array_of(given, what)
    if values.dtype.kind not in "biu" and not _is_floating(values):
        raise TypeError(f"{what} are {values.dtype.name}; give numbers")
    numbers = steps if heads is None else steps * heads
    if values.size != numbers or (heads not in {None, 1} and values.shape[-1:] != (heads,)):
        needed = f"{steps} steps" if heads is None else f"{steps} steps and {heads} heads, (…, {heads})"
        raise ValueError(f"{what} has shape {values.shape}, but the logits are of {needed}")
    return values.reshape(steps) if heads is None else values.reshape(steps, heads)


def array_of(given: Any, what: str) -> AnyArray:
    """An array of NumPy. Raises TypeError for what cannot be read as one."""
    if not hasattr(given, "__array__") and isinstance(given, WithLogits):
        given = given.logits
    word = type(given).__name__
    try:
        found = np.asarray(given)
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise TypeError(
            f"{what} are {word}, which NumPy cannot read here ({reason}); give arrays that the loop keeps, and "
            "from inside a jitted function return them and add them outside"
        ) from error
    if found.dtype.kind in "OSUMm":
        raise TypeError(f"{what} are {word}; give arrays, or distributions that have logits")
    return found


def _rows(given: PerHead, layout: HeadLayout, what: str) -> AnyArray:
    parts = layout.parts_of(given, what)
    if parts is None:
        return _of_one(array_of(given, what), layout, what)
    return _of_each([array_of(part, what) for part in parts], layout, what)


def _of_each(parts: Sequence[AnyArray], layout: HeadLayout, what: str) -> AnyArray:
    """One array (…, n) for each head."""
    for name, size, part in zip(layout.names, layout.sizes, parts, strict=True):
        if not part.ndim or part.shape[-1] != size:
            raise ValueError(
                f"{what} of head {name!r} have shape {part.shape}, but the head has {size} choices; "
                f"give (…, {size})"
            )
    flat = [part.reshape(-1, size) for part, size in zip(parts, layout.sizes, strict=True)]
    layout.require_equal([len(part) for part in flat], what)
    return np.concatenate(flat, 1)


def _of_one(array: AnyArray, layout: HeadLayout, what: str) -> AnyArray:
    """One array (…, Σn), or padded (…, H, widest head)."""
    shape, heads = array.shape, len(layout.sizes)
    if shape and shape[-1] == layout.total:
        return array.reshape(-1, layout.total)
    if len(shape) > 1 and shape[-2:] == (heads, layout.width):
        padded: AnyArray = array.reshape(-1, heads, layout.width)[:, layout.segment, layout.row]
        return padded
    sizes = ", ".join(f"{name} {size}" for name, size in zip(layout.names, layout.sizes, strict=True))
    raise ValueError(
        f"{what} have shape {shape}, but the heads have {layout.total} choices together ({sizes}); "
        f"give (…, {layout.total}), or (…, {heads}, {layout.width}) padded, or one array for each head"
    )


def _is_floating(array: AnyArray) -> bool:
    """Types of ml_dtypes, such as bfloat16, are none of NumPy's own kinds."""
    return array.dtype.kind == "f" or "float" in array.dtype.name
