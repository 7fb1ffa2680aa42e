"""Norms of the gradient of each head's own parameters, before clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.uploads import upload

Parameters = nn.Module | nn.Parameter | Iterable[nn.Parameter]


class GradientNorms(NamedTuple):
    """Norms of the parts that the gradients of one backward pass consist of, (L,), and whose each is."""

    norms: Tensor
    heads: tuple[int, ...]
    """The head of each part, by its index."""


def gradient_norms(owners: Parameters | Mapping[str, Parameters], layout: HeadLayout) -> GradientNorms:
    """From the gradients that a backward pass left, in as few operations as there are parameters.

    ``owners``: one layer whose rows are those of the logits, as ``nn.Linear(features, Σn)``, or with one row
    for each head, as that of Bernoulli distributions; or the modules or parameters of each head by its name
    (``nn.ModuleDict`` is such a mapping). Raises ValueError where that fits no head.
    """
    if isinstance(owners, Mapping | nn.ModuleDict):
        return _by_name(owners, layout)
    rows = [_row_norms(gradient, layout) for gradient in _gradients(owners)]
    if not rows:
        return GradientNorms(torch.empty(0, device=layout.segment.device), ())
    norms = rows[0]
    for other in rows[1:]:
        norms = torch.hypot(norms, other)
    whose = range(len(norms)) if len(norms) == len(layout.sizes) else layout.head_of_column
    return GradientNorms(norms, tuple(whose))


def head_norms(parts: Sequence[GradientNorms], layout: HeadLayout) -> Tensor:
    """(K, H) of K backward passes; -1 for a head without gradients."""
    device, heads = layout.segment.device, len(layout.sizes)
    if not parts:
        return torch.zeros(0, heads, device=device)
    found = []
    for whose, group in groupby(parts, key=lambda part: part.heads):
        squares = torch.stack([part.norms for part in group]).square()
        index = upload(np.asarray(whose, dtype=np.int64), device)
        present = upload(np.isin(np.arange(heads), whose), device)
        norms = squares.new_zeros(len(squares), heads).index_add(1, index, squares).sqrt()
        found.append(torch.where(present, norms, -1.0))
    return torch.cat(found)


def _by_name(owners: Mapping[str, Parameters] | nn.ModuleDict, layout: HeadLayout) -> GradientNorms:
    unknown = [name for name in owners if name not in layout.names]
    if unknown:
        raise ValueError(f"no head {unknown[0]!r} has gradients; heads: {', '.join(layout.names)}")
    norms, whose = [], []
    for name, owner in owners.items():
        for gradient in _gradients(owner):
            norms.append(torch.linalg.vector_norm(gradient, dtype=torch.float32))
            whose.append(layout.names.index(name))
    stacked = torch.stack(norms) if norms else torch.empty(0, device=layout.segment.device)
    return GradientNorms(stacked, tuple(whose))


def _gradients(owner: Parameters) -> list[Tensor]:
    # A parameter alone would give its rows, which have no gradients of their own.
    alone = [owner] if isinstance(owner, Tensor) else owner
    parameters = alone.parameters() if isinstance(alone, nn.Module) else alone
    return [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]


def _row_norms(gradient: Tensor, layout: HeadLayout) -> Tensor:
    if not gradient.ndim or len(gradient) not in {layout.total, len(layout.sizes)}:
        raise ValueError(
            f"the layer has a parameter of shape {tuple(gradient.shape)}, but the heads have {layout.total} "
            "choices together; give a layer with one row for each, or the modules of each head by its name"
        )
    if gradient.ndim == 1:
        return gradient.abs().float()
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float32)
    return norms
