"""What one update measured of each head: sums over the steps of whole epochs, divided by counts, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.payload import HeadMeasurement


class StepSums(NamedTuple):
    """Sums and counts over the steps of an epoch, or part of one, for H heads; each (H,).

    An entropy that is not finite is in no sum. ``all_masked`` counts steps whose mask allows no action.
    """

    entropy: Tensor
    finite: Tensor
    choice_entropy: Tensor
    finite_choice: Tensor
    choice: Tensor
    all_masked: Tensor
    nan: Tensor
    inf: Tensor


class HeadEpoch(NamedTuple):
    """``StepSums`` of one head, on the host."""

    entropy: float = 0.0
    finite: float = 0.0
    choice_entropy: float = 0.0
    finite_choice: float = 0.0
    choice: float = 0.0
    all_masked: float = 0.0
    nan: float = 0.0
    inf: float = 0.0


class HeadUpdate(NamedTuple):
    """What an update measured of a head, and at how many steps of an epoch its mask allowed no action."""

    measurement: HeadMeasurement
    all_masked: int


class UpdateTelemetry:
    """Collects the minibatches of one update on the device; ``result`` moves sums to the host, all at once.

    An epoch is whole when its minibatches make up ``epoch_steps`` steps. The loss visits every step once an
    epoch, so one that was cut short (``target_kl``) says nothing about the rollout and counts in no mean;
    only what was not finite in it is counted.
    """

    def __init__(self, sizes: Sequence[int], epoch_steps: int) -> None:
        self._sizes = list(sizes)
        self._epoch_steps = epoch_steps
        self._masked = False
        self._steps = 0
        self._minibatches = 0
        self._whole_minibatches = 0
        self._entropies: list[Sequence[Tensor]] = []
        self._masks: list[Sequence[Tensor]] = []
        self._epochs: list[Tensor] = []

    def add(self, entropies: Sequence[Tensor], masks: Sequence[Tensor] | None) -> None:
        """One minibatch: entropy in nats (B,) and mask (B, n) of each head; ``masks`` None without masks."""
        self._entropies.append(entropies)
        if masks is not None:
            self._masked = True
            self._masks.append(masks)
        self._minibatches += 1
        self._steps += len(entropies[0])
        if self._steps == self._epoch_steps:
            self._epochs.append(self._reduced())
            self._whole_minibatches = self._minibatches
            self._steps = 0

    def result(self, row_norms: Tensor | None) -> list[HeadUpdate]:
        """One entry for each head. ``row_norms`` (optimiser steps, Σn): see ``GradientTap.take``.

        Raises ValueError when the minibatches do not add up to epochs: their means would mean nothing.
        """
        if self._steps > self._epoch_steps:
            raise ValueError(
                f"the loss evaluated {self._steps} steps in an epoch over a rollout of {self._epoch_steps}; "
                "this update is not measured"
            )
        if not self._minibatches:
            return []
        parts = [*self._epochs, self._reduced()]
        rows = len(StepSums._fields)
        gradients = _gradient_sums(row_norms, self._sizes, self._whole_minibatches)
        columns = torch.cat([*parts, gradients.to(parts[0])]).T.tolist()
        starts = range(0, len(parts) * rows, rows)
        return [
            self._head([HeadEpoch(*column[at : at + rows]) for at in starts], column[-4:]) for column in columns
        ]

    def _reduced(self) -> Tensor:
        """Sums over the minibatches since the last whole epoch, (8, H); they are dropped."""
        if not self._entropies:
            return torch.zeros_like(self._epochs[-1])
        entropies = torch.stack(_by_head(self._entropies))
        valid = [masks.sum(1) for masks in _by_head(self._masks)]
        self._entropies, self._masks = [], []
        return _step_sums(entropies, torch.stack(valid) if valid else None)

    def _head(self, parts: list[HeadEpoch], gradients: list[float]) -> HeadUpdate:
        *epochs, _ = parts
        nan_gradients, inf_gradients, norm_sum, norms = gradients
        counts = (
            int(math.fsum(part.nan for part in parts)),
            int(math.fsum(part.inf for part in parts)),
            int(nan_gradients),
            int(inf_gradients),
        )
        all_masked = int(max(part.all_masked for part in parts))
        if all_masked or not any(epoch.finite for epoch in epochs):
            return HeadUpdate(HeadMeasurement(None, None, None, None, None, None, *counts), all_masked)
        choosing = [epoch for epoch in epochs if epoch.finite_choice]
        share = epochs[0].choice / self._epoch_steps if self._masked else None
        return HeadUpdate(
            HeadMeasurement(
                fmean(epoch.entropy / epoch.finite for epoch in epochs if epoch.finite),
                fmean(e.choice_entropy / e.finite_choice for e in choosing) if choosing else None,
                share,
                share,
                norm_sum / norms if norms else None,
                None,
                *counts,
            ),
            0,
        )


def _by_head(minibatches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """All steps of each head, (steps, …), from (B, …) for each head of each minibatch."""
    return [torch.cat(parts) for parts in zip(*minibatches, strict=True)]


@torch.no_grad()
def _step_sums(entropy: Tensor, valid: Tensor | None) -> Tensor:
    """``StepSums`` stacked, (8, H), from entropies and valid choices (H, steps)."""
    finite = torch.isfinite(entropy)
    zeros = torch.zeros_like(finite)
    choice = zeros if valid is None else valid >= 2
    finite_choice = choice & finite
    ratio = entropy if valid is None else entropy / valid.clamp(min=2).log()
    sums = StepSums(
        entropy=torch.where(finite, entropy, 0.0),
        finite=finite,
        choice_entropy=torch.where(finite_choice, ratio, 0.0),
        finite_choice=finite_choice,
        choice=choice,
        all_masked=zeros if valid is None else valid == 0,
        nan=torch.isnan(entropy),
        inf=torch.isinf(entropy),
    )
    return torch.stack([part.sum(1, dtype=_exact(entropy)) for part in sums])


@torch.no_grad()
def _gradient_sums(row_norms: Tensor | None, sizes: list[int], whole: int) -> Tensor:
    """Optimiser steps with NaN, with infinite norm; sum and count of the finite in whole epochs; (4, H)."""
    if row_norms is None:
        return torch.zeros(4, len(sizes))
    norms = torch.stack([torch.linalg.vector_norm(rows, dim=1) for rows in torch.split(row_norms, sizes, 1)])
    finite = torch.isfinite(norms)
    sums = (
        torch.isnan(norms),
        torch.isinf(norms),
        torch.where(finite, norms, 0.0)[:, :whole],
        finite[:, :whole],
    )
    return torch.stack([part.sum(1, dtype=_exact(norms)) for part in sums])


def _exact(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
