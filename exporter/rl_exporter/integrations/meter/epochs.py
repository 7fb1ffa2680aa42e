"""Sums over the steps of whole epochs, on the device and for all heads at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import exact_dtype


class EpochSteps(NamedTuple):
    """Every step of E whole epochs, the environments of one epoch beside those of the next."""

    entropy: Tensor
    """(T, E * N, H) nats, under the step mask."""
    decision_entropy: Tensor
    """(T, E * N, H) nats, under the decision mask."""
    log_valid: Tensor
    """(T, E * N, H) ln of the valid choices under the decision mask."""
    choice: Tensor
    """(T, E * N, H) bool, the head decided something."""


def entropy_sums(steps: EpochSteps, epochs: int) -> dict[str, Tensor]:
    """Sums and counts of entropy over every step, and of H / ln v over the choice steps, (epochs, H) each."""
    entropy, decided, log_valid, choice = steps
    # Entropies are NaN where a logit is not finite, and never infinite.
    measured = ~entropy.isnan()
    choosing = choice & ~decided.isnan()
    # A choice step has two valid actions or more, so ln v is at least ln 2; elsewhere the quotient is not used.
    values = {
        "entropy": entropy.nan_to_num(0.0),
        "entropy_steps": measured,
        "choice_entropy": torch.where(choosing, decided / log_valid, 0.0),
        "choice_entropy_steps": choosing,
    }
    by_column = torch.stack([value.to(entropy.dtype).sum(0) for value in values.values()])
    return dict(zip(values, sum_by_epoch(by_column, epochs), strict=True))


def nonfinite_steps(entropy: Tensor, peak: Tensor) -> dict[str, Tensor]:
    """Steps with NaN, else infinity, among the logits of valid actions, (H,) each, from (T, S, H)."""
    # An entropy is NaN for an infinite logit as for a NaN; only the largest logit tells the two apart.
    nan = torch.isnan(peak).sum((0, 1))
    return {"nan_steps": nan, "inf_steps": torch.isnan(entropy).sum((0, 1)) - nan}


def ratio_sums(ratio: Tensor, choice: Tensor, clip: float, epochs: int) -> dict[str, Tensor]:
    """Clipped steps (epochs,) and largest importance ratio (H,), from ratios and choice steps (T, S, H)."""
    # A head that decided nothing has the ratio 1, which is inside any range.
    outside = (ratio.amin(-1, keepdim=True) < 1 - clip) | (ratio.amax(-1, keepdim=True) > 1 + clip)
    # But it must not pass for the largest ratio of the head.
    largest = torch.where(choice, ratio, 0.0).amax(0)
    return {
        "clipped_steps": sum_by_epoch(outside.to(ratio.dtype).sum(0).unsqueeze(0), epochs).flatten(),
        "importance_ratio_max": largest.amax(0) if epochs else largest.new_zeros(largest.shape[-1]),
    }


def gradient_sums(norms: Tensor, whole: int) -> dict[str, Tensor]:
    """(H,) each, from norms (optimiser steps, H)."""
    norms = norms.to(exact_dtype(norms.device))
    finite = torch.isfinite(norms)
    return {
        "head_gradient_norm": torch.where(finite, norms, 0.0)[:whole].sum(0),
        "head_gradient_steps": finite[:whole].sum(0),
        "nan_gradients": torch.isnan(norms).sum(0),
        "inf_gradients": torch.isinf(norms).sum(0),
    }


def sum_by_epoch(by_column: Tensor, epochs: int) -> Tensor:
    """Sums over the steps of an environment, (Q, epochs * N, H), added up over each epoch, (Q, epochs, H).

    Only here in double precision: single precision does for the steps of one environment, because torch adds in
    pairs, but a sum over 10^5 steps would lose the digits that a slope is made of.
    """
    quantities, columns, heads = by_column.shape
    return (
        by_column.to(exact_dtype(by_column.device))
        .reshape(quantities, epochs, columns // max(1, epochs), heads)
        .sum(2)
    )
