"""The measurement itself: from entropies of single steps to sums and counts over whole epochs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class HeadSteps(NamedTuple):
    """Steps of whole epochs: T steps of E epochs of N environments side by side, H heads.

    entropy    (T, E * N, H) nats, under the step mask
    decided    (T, E * N, H) nats, under the decision mask
    log_valid  (T, E * N, H) ln of the valid choices under the decision mask
    choice     (T, E * N, H) bool, the head decided something
    padding    (T, E * N) bool, there was no step; None: none is padding
    """

    entropy: Tensor
    decided: Tensor
    log_valid: Tensor
    choice: Tensor
    padding: Tensor | None = None


def head_sums(steps: HeadSteps, epochs: int) -> Tensor:
    """(epochs, 4 H) float64: entropy sum and count over every step, H / ln v sum and count over choice steps.

    What is not finite is left out of sum and count alike, and so is padding.
    """
    entropy, decided, log_valid, choice, padding = steps
    measured = torch.isfinite(entropy)
    choosing = choice & torch.isfinite(decided)
    if padding is not None:
        measured = measured & ~padding.unsqueeze(-1)
        choosing = choosing & ~padding.unsqueeze(-1)
    parts = (
        torch.where(measured, entropy, 0.0),
        measured,
        torch.where(choosing, decided / log_valid, 0.0),
        choosing,
    )
    return torch.cat([epoch_sums(part, epochs) for part in parts], 1)


def epoch_sums(values: Tensor, epochs: int) -> Tensor:
    """(T, epochs * N, H) summed over the steps of each epoch, (epochs, H) float64."""
    steps, columns, heads = values.shape
    by_epoch = values.reshape(steps, epochs, columns // max(1, epochs), heads)
    return by_epoch.sum((0, 2), dtype=torch.float64)


def epoch_means(sums: list[list[float]], heads: int) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    """Entropy in nats, and choice entropy, of each head: one mean for each epoch that measured it.

    ``sums``: rows of ``head_sums``. An epoch without a choice step has no choice entropy.
    """

    def means(at: int) -> list[tuple[float, ...]]:
        return [
            tuple(row[at + head] / row[at + heads + head] for row in sums if row[at + heads + head] > 0)
            for head in range(heads)
        ]

    return means(0), means(2 * heads)
