"""Arrays of JAX, which a meter reads when an update ends: to read one, the host waits for the device."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def on_device(given: Any) -> bool:
    """Whether any part of it is an array of JAX."""
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(part, jax.Array) for part in _parts(given))


def held(given: Any) -> Any:
    """The same numbers, whatever the loop does with its arrays afterwards.

    Arrays of JAX never change; their way to the host begins here. Others are copied.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: held(part) for name, part in given.items()}
    if isinstance(given, list | tuple):
        return [held(part) for part in given]
    if not hasattr(given, "__array__") and hasattr(given, "logits"):
        return held(given.logits)
    if on_device(given):
        given.copy_to_host_async()
        return given
    return np.array(given)


def _parts(given: Any) -> list[Any]:
    """What may be an array in logits, masks, numbers of steps or gradients."""
    if isinstance(given, Mapping):
        return [leaf for part in given.values() for leaf in _parts(part)]
    if isinstance(given, list | tuple):
        return [leaf for part in given for leaf in _parts(part)]
    return [given.logits if not hasattr(given, "__array__") and hasattr(given, "logits") else given]
