"""Sums of the advantage margin: whether a head is paid for what it mostly does."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.sums import ActionSums, FloatArray, UpdateSums


class AdvantageSums(ActionSums[Tensor]):
    """The sums as tensors."""

    __slots__ = ()

    @classmethod
    def none(cls, actions: int, device: torch.device | None = None) -> AdvantageSums:
        """Before the first update."""
        exact = torch.float64 if device is None else exact_dtype(device)
        return cls(*torch.zeros(3, actions, dtype=exact, device=device or "cpu"))

    @classmethod
    def of(cls, sums: UpdateSums[FloatArray]) -> AdvantageSums:
        """Those of one update, over all ranks."""
        sampled = (sums.sampled_steps, sums.sampled_advantage, sums.sampled_advantage_square)
        return cls(*map(torch.from_numpy, sampled))


def require_known_actions(choice: Tensor, actions: Tensor, layout: HeadLayout) -> None:
    """Raise ValueError for an action that its head does not have, at choice steps; both are (H, S).

    The host waits for the device.
    """
    wrong = choice & ((actions < 0) | (actions >= layout.widths.unsqueeze(-1)))
    if wrong.any():
        head, step = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"actions of head {layout.names[head]!r} hold {actions[head, step]}, but the head has "
            f"{layout.sizes[head]} choices"
        )


def advantage_sums(choice: Tensor, actions: Tensor, advantages: Tensor, layout: HeadLayout) -> AdvantageSums:
    """The sums of some steps, on the device: choice steps and actions (…, H), normalized advantages (…)."""
    exact = exact_dtype(advantages.device)
    # Padding may hold any action; as an index it would be an error, which on a GPU ends the program.
    valid = (actions >= 0) & (actions < layout.widths)
    counted = choice & valid & torch.isfinite(advantages).unsqueeze(-1)
    # An advantage that is not finite has no place in a sum, not even times 0.
    kept = torch.nan_to_num(advantages, 0.0, 0.0, 0.0).to(exact).unsqueeze(-1)
    columns = (torch.where(valid, actions, 0) + layout.first).flatten()
    values = counted.to(exact).unsqueeze(0) * torch.stack([torch.ones_like(kept), kept, kept * kept])
    sums = values.new_zeros(3, layout.total).index_add_(1, columns, values.flatten(1))
    return AdvantageSums(*sums)
