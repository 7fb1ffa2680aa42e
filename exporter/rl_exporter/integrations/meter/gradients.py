"""Norms of the gradient of each head's own parameters, before clipping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rl_exporter.integrations.meter.layout import HeadLayout

Parameters = nn.Module | Iterable[nn.Parameter]


def head_gradient_norms(owners: Parameters | Mapping[str, Parameters], layout: HeadLayout) -> Tensor:
    """(H,) from the gradients that a backward pass left; -1 for a head without any.

    ``owners``: one layer whose rows are those of the logits, as ``nn.Linear(features, Σn)``, or with one row
    for each head, as that of Bernoulli distributions; or the modules or parameters of each head by its name.
    Raises TypeError or ValueError where that fits no head.
    """
    if isinstance(owners, Mapping):
        unknown = [name for name in owners if name not in layout.names]
        if unknown:
            raise ValueError(f"no head {unknown[0]!r} has gradients; heads: {', '.join(layout.names)}")
        norms = [_norm(owners[name]) if name in owners else None for name in layout.names]
        device = layout.segment.device
        return torch.stack([torch.full((), -1.0, device=device) if norm is None else norm for norm in norms])
    rows = [_row_squares(gradient, layout) for gradient in _gradients(owners)]
    if not rows:
        return torch.full((len(layout.sizes),), -1.0, device=layout.segment.device)
    squares = torch.stack(rows).sum(0)
    return (layout.sums(squares) if len(squares) == layout.total else squares).sqrt()


def _gradients(owner: Parameters) -> list[Tensor]:
    parameters = owner.parameters() if isinstance(owner, nn.Module) else owner
    return [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]


def _norm(owner: Parameters) -> Tensor | None:
    norms = [torch.linalg.vector_norm(gradient) for gradient in _gradients(owner)]
    return torch.linalg.vector_norm(torch.stack(norms)).float() if norms else None


def _row_squares(gradient: Tensor, layout: HeadLayout) -> Tensor:
    if not gradient.ndim or len(gradient) not in {layout.total, len(layout.sizes)}:
        raise ValueError(
            f"the layer has a parameter of shape {tuple(gradient.shape)}, but the heads have {layout.total} "
            "choices together; give a layer with one row for each, or the modules of each head by its name"
        )
    return gradient.float().reshape(len(gradient), -1).square().sum(1)
