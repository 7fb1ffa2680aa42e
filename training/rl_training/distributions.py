"""Masked categorical distributions over several heads that share one flat row of logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BoolArray = npt.NDArray[np.bool_]


class HeadLayout:
    """Where each head's segment lies in a flat row of Σn logits, and how to pad the segments to one width."""

    def __init__(self, names: Sequence[str], sizes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        self.total = sum(sizes)
        self.width = max(sizes)
        self.offsets = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype(np.int64)
        columns = np.arange(self.width)
        inside = columns < np.asarray(sizes)[:, None]
        self.padding_index = torch.as_tensor(
            np.where(inside, self.offsets[:, None] + columns, 0), device=device
        )
        self.inside = torch.as_tensor(inside, device=device)

    def pad(self, row: Tensor) -> Tensor:
        """(…, Σn) to (…, H, widest head); what lies outside a head repeats the row's first value."""
        return row[..., self.padding_index]

    def counts(self, masks: BoolArray) -> npt.NDArray[np.int64]:
        """Valid choices of each head: (…, Σn) to (…, H)."""
        return np.add.reduceat(masks, self.offsets, axis=-1, dtype=np.int64)

    def require_choices(self, masks: BoolArray) -> None:
        """Raise ValueError naming head and row when a mask of shape (…, Σn) allows a head nothing."""
        empty = self.counts(masks) == 0
        if empty.any():
            *row, head = (int(index) for index in np.argwhere(empty)[0])
            raise ValueError(
                f"the mask of head {self.names[head]!r} allows no action in row {tuple(row)}; "
                "every mask must leave at least one valid action"
            )


class MaskedCategorical:
    """Categorical distributions of all heads under a mask.

    ``logits`` (…, Σn) of any floating type, ``mask`` (…, Σn) bool. Everything is computed in float32.
    With ``validate`` a head without a valid action raises ValueError; leave it off on hot paths, where
    masks were checked on the host.
    """

    def __init__(self, logits: Tensor, mask: Tensor, layout: HeadLayout, *, validate: bool = True) -> None:
        if validate:
            layout.require_choices(mask.cpu().numpy())
        self._layout = layout
        self.mask = layout.pad(mask) & layout.inside
        padded = layout.pad(logits.float()).masked_fill(~self.mask, -torch.inf)
        self.log_probs = torch.log_softmax(padded, dim=-1)
        """(…, H, widest head); -inf where an action is not valid."""

    @cached_property
    def _finite_log_probs(self) -> Tensor:
        return self.log_probs.masked_fill(~self.mask, 0.0)

    @cached_property
    def entropy(self) -> Tensor:
        """Entropy of each head in nats, (…, H); exactly 0 with one valid action."""
        probabilities = self._finite_log_probs.exp().masked_fill(~self.mask, 0.0)
        return -(probabilities * self._finite_log_probs).sum(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of each head's action, (…, H); -inf for an action that is not valid."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def choose(self, noise: Tensor) -> Tensor:
        """Sample each head's action, (…, H), by exponential noise of shape (…, Σn).

        The Gumbel-max trick: argmax(log p - log E) with E ~ Exp(1) is a sample of p.
        """
        positive = noise.clamp_min(torch.finfo(noise.dtype).tiny)
        return (self.log_probs - self._layout.pad(positive).log()).argmax(-1)
