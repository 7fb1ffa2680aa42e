"""Norms of the gradient of each head's own parameters, before clipping."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_exporter.integrations.meter.sums import FloatArray
from rl_exporter.integrations.numpy.form import array_of
from rl_exporter.integrations.numpy.layout import HeadLayout

Gradients = Any
"""An array, or arrays in lists, mappings and, where JAX is in use, any pytree. None is no gradient."""


def by_head(given: Gradients, layout: HeadLayout) -> list[Any] | dict[str, list[Any]]:
    """The arrays of one layer, or of each head by its name. Raises ValueError for a name that no head has."""
    if isinstance(given, Mapping) and any(name in layout.names for name in given):
        unknown = [name for name in given if name not in layout.names]
        if unknown:
            raise ValueError(f"no head {unknown[0]!r} has gradients; heads: {', '.join(layout.names)}")
        return {name: _leaves(own) for name, own in given.items()}
    return _leaves(given)


def head_gradient_norms(given: list[Any] | dict[str, list[Any]], layout: HeadLayout, axis: int) -> FloatArray:
    """(H,) from gradients; -1 for a head without any.

    ``given``: arrays of one layer with one number for each logit along ``axis``, or one for each head, as that
    of Bernoulli distributions; or arrays of each head. Raises TypeError or ValueError where they fit no head.
    """
    if isinstance(given, dict):
        return np.array([_norm(given.get(name, [])) for name in layout.names])
    squares = [_head_squares(array, layout, axis) for array in _arrays(given)]
    return np.sqrt(np.sum(squares, 0)) if squares else np.full(len(layout.sizes), -1.0)


def gradient_sums(norms: Sequence[FloatArray], whole: int, heads: int) -> dict[str, FloatArray]:
    """(H,) each, from the norms of optimiser steps, of which the first ``whole`` belong to whole epochs."""
    given = np.array(norms).reshape(-1, heads)
    # A head without gradients, -1, has no norm: it counts neither as finite nor as NaN.
    finite = np.isfinite(given) & (given >= 0)
    return {
        "head_gradient_norm": np.where(finite, given, 0.0)[:whole].sum(0),
        "head_gradient_steps": finite[:whole].sum(0, dtype=np.float64),
        "nan_gradients": np.isnan(given).sum(0, dtype=np.float64),
        "inf_gradients": np.isinf(given).sum(0, dtype=np.float64),
    }


def _leaves(given: Gradients) -> list[Any]:
    jax = sys.modules.get("jax")
    if jax is not None:
        found: list[Any] = jax.tree_util.tree_leaves(given)
        return found
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [leaf for part in given.values() for leaf in _leaves(part)]
    if isinstance(given, list | tuple):
        return [leaf for part in given for leaf in _leaves(part)]
    return [given]


def _arrays(given: Sequence[Any]) -> list[FloatArray]:
    return [array_of(leaf, "gradients").astype(np.float64) for leaf in given]


def _norm(given: Sequence[Any]) -> float:
    squares = [np.square(array).sum() for array in _arrays(given)]
    return float(np.sqrt(np.sum(squares))) if squares else -1.0


def _head_squares(array: FloatArray, layout: HeadLayout, axis: int) -> FloatArray:
    if not array.ndim or array.shape[axis] not in {layout.total, len(layout.sizes)}:
        raise ValueError(
            f"the layer has a gradient of shape {array.shape}, but the heads have {layout.total} choices "
            f"together; give a layer with one number for each along axis {axis} (axis=-1 for kernels of Flax "
            "and Haiku), or the gradients of each head by its name"
        )
    rows = np.moveaxis(array, axis, 0)
    squares: FloatArray = np.square(rows.reshape(len(rows), -1)).sum(1)
    return layout.sums(squares) if len(rows) == layout.total else squares
