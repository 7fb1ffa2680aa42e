"""What a loop hands to a meter, as flat rows.

The first minibatch is checked, and what does not fit raises one line that names the head. Later ones have the
same form, because the same code makes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.uploads import on_device


@runtime_checkable
class WithLogits(Protocol):
    """A distribution over actions, such as ``torch.distributions.Categorical``."""

    @property
    def logits(self) -> Any:
        """(…, n) logits or log-probabilities."""


PerHead = Tensor | WithLogits | Sequence[Tensor | WithLogits] | Mapping[str, Tensor | WithLogits]
"""Logits or masks of all heads.

One tensor (…, Σn); one padded (…, H, widest head); or one (…, n) for each head, in order or by name. A nested
tensor of sequences has (…, j, Σn), where j is the length of each.
"""


def logit_rows(given: PerHead, layout: HeadLayout) -> Tensor:
    """Logits (S, Σn) of S steps. Raises TypeError or ValueError with head and shape."""
    rows = _rows(given, layout, "logits")
    if not rows.is_floating_point():
        raise TypeError(f"logits are {_word(rows.dtype)}; give floating-point logits or log-probabilities")
    return rows


def mask_rows(given: PerHead, layout: HeadLayout, logits: Tensor, operations: int = 1) -> Tensor:
    """Masks (S, Σn) bool, or (S, K, Σn) for K > 1 operations. Raises as ``logit_rows``."""
    if _by_operation(given, layout, len(logits), operations):
        masks = on_device(_tensor(given, "masks"), logits.device).reshape(-1, operations, layout.total)
    else:
        masks = _rows(given, layout, "masks", logits.device)
    if masks.is_floating_point() or masks.is_complex():
        raise TypeError(f"masks are {_word(masks.dtype)}; give booleans, True where an action is valid")
    if masks.device != logits.device:
        raise ValueError(f"masks are on {masks.device}, logits on {logits.device}; move the masks")
    if len(masks) not in (1, len(logits)):
        raise ValueError(
            f"masks are of {len(masks)} steps, logits of {len(logits)}; give one mask for each step"
        )
    return (masks != 0).expand(len(logits), *masks.shape[1:])


def step_values(given: Tensor, steps: int, what: str, device: torch.device, heads: int | None = None) -> Tensor:
    """A number for each step, (S,), or for each step and head, (S, H), on the device. Raises ValueError."""
    values = _flat(given, what, device)
    numbers = steps if heads is None else steps * heads
    if values.numel() != numbers or (heads not in {None, 1} and values.shape[-1:] != (heads,)):
        needed = f"{steps} steps" if heads is None else f"{steps} steps and {heads} heads, (…, {heads})"
        raise ValueError(f"{what} has shape {tuple(values.shape)}, but the logits are of {needed}")
    return values.reshape(steps) if heads is None else values.reshape(steps, heads)


def require_some_choice(masks: Tensor, layout: HeadLayout, padding: Tensor | None = None) -> None:
    """Raise ValueError where a mask (S, …, Σn) allows a head nothing, except at ``padding`` (S,).

    The host waits for the device.
    """
    shape = (-1, *[1] * (masks.ndim - 1))
    needed = masks if padding is None else masks | padding.reshape(shape)
    layout.require_choices(needed.cpu().numpy())


def _rows(given: PerHead, layout: HeadLayout, what: str, device: torch.device | None = None) -> Tensor:
    parts = layout.parts_of(given, what)
    if parts is None:
        return _of_one(_flat(given, what, device), layout, what)
    return _of_each([_flat(part, what, device) for part in parts], layout, what)


def _flat(given: Any, what: str, device: torch.device | None) -> Tensor:
    """A tensor on the device, if one is named; a nested one as the steps of its sequences."""
    flat = _flat_nested(_tensor(given, what))
    return flat if device is None else on_device(flat, device)


def _of_each(parts: Sequence[Tensor], layout: HeadLayout, what: str) -> Tensor:
    """One tensor (…, n) for each head."""
    flat = []
    for name, size, part in zip(layout.names, layout.sizes, parts, strict=True):
        if not part.ndim or part.shape[-1] != size:
            raise ValueError(
                f"{what} of head {name!r} have shape {tuple(part.shape)}, but the head has {size} choices; "
                f"give (…, {size})"
            )
        if part.device != parts[0].device:
            raise ValueError(f"{what} of head {name!r} are on {part.device}, others on {parts[0].device}")
        flat.append(part.reshape(-1, size))
    layout.require_equal([len(part) for part in flat], what)
    return torch.cat(flat, 1)


def _of_one(tensor: Tensor, layout: HeadLayout, what: str) -> Tensor:
    """One tensor (…, Σn), or padded (…, H, widest head)."""
    shape, heads = tuple(tensor.shape), len(layout.sizes)
    if shape and shape[-1] == layout.total:
        return tensor.reshape(-1, layout.total)
    if len(shape) > 1 and shape[-2:] == (heads, layout.width):
        padded = tensor.reshape(-1, heads, layout.width)
        return padded[:, layout.segment, layout.row]
    sizes = ", ".join(f"{name} {size}" for name, size in zip(layout.names, layout.sizes, strict=True))
    raise ValueError(
        f"{what} have shape {shape}, but the heads have {layout.total} choices together ({sizes}); "
        f"give (…, {layout.total}), or (…, {heads}, {layout.width}) padded, or one tensor for each head"
    )


def _by_operation(given: PerHead, layout: HeadLayout, steps: int, operations: int) -> bool:
    """Whether masks have a row for each operation, rather than as many steps as there are operations."""
    if operations == 1 or getattr(given, "is_nested", False):
        return False
    shape = tuple(getattr(given, "shape", ()))
    return shape[-2:] == (operations, layout.total) and math.prod(shape[:-1]) != steps


def _tensor(given: Any, what: str) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach()
    if isinstance(given, np.ndarray):
        return torch.from_numpy(given)
    if isinstance(given, WithLogits) and isinstance(given.logits, Tensor):
        return given.logits.detach()
    raise TypeError(f"{what} are {type(given).__name__}; give tensors, or distributions that have logits")


def _flat_nested(tensor: Tensor) -> Tensor:
    """A nested tensor as the steps of its sequences, one after the other."""
    if not tensor.is_nested:
        return tensor
    if tensor.layout is torch.jagged:
        values: Tensor = tensor.values()
        return values
    return torch.cat(list(tensor.unbind()))


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
