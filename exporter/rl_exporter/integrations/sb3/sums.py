"""What one update measured of each head: sums over the steps of whole epochs, divided by counts, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.sb3.decisions import Decisions, decision_row
from rl_exporter.payload import HeadMeasurement


class EpochSums(NamedTuple):
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


class HeadEpochSums(NamedTuple):
    """``EpochSums`` of one head, on the host; the fields are the same."""

    entropy: float = 0.0
    finite: float = 0.0
    choice_entropy: float = 0.0
    finite_choice: float = 0.0
    choice: float = 0.0
    all_masked: float = 0.0
    nan: float = 0.0
    inf: float = 0.0


class HeadGradientSums(NamedTuple):
    """Optimiser steps of one head whose gradient norm was NaN or infinite; sum and count of the finite norms.

    The sum and its count leave out an epoch that was cut short.
    """

    nan: float
    inf: float
    norm: float
    finite: float


class MeasuredHead(NamedTuple):
    """What an update measured of a head, and at how many steps of an epoch its mask allowed no action."""

    measurement: HeadMeasurement
    all_masked: int


class UpdateAccumulator:
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
        self._probabilities: list[Sequence[Tensor]] = []
        self._decisions: list[Tensor] = []

    def add(
        self, entropies: Sequence[Tensor], masks: Sequence[Tensor] | None, probabilities: Sequence[Tensor]
    ) -> None:
        """One minibatch: entropy in nats (B,), mask and probabilities (B, n) of each head; maybe no masks."""
        self._entropies.append(entropies)
        self._probabilities.append(probabilities)
        if masks is not None:
            self._masked = True
            self._masks.append(masks)
        self._minibatches += 1
        self._steps += len(entropies[0])
        if self._steps == self._epoch_steps:
            # Of the last whole epoch alone, whose policy acts next.
            self._decisions = self._decided()
            self._epochs.append(self._reduced())
            self._whole_minibatches = self._minibatches
            self._steps = 0

    def result(self, row_norms: Tensor | None) -> list[MeasuredHead]:
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
        gradients = _gradient_sums(row_norms, self._sizes, self._whole_minibatches)
        rows = torch.cat([*parts, gradients.to(parts[0])])
        # One transfer: the host waits for the device here, and nowhere else.
        numbers = torch.cat([rows.T.flatten(), *self._decisions]).tolist()
        found = []
        decisions = len(rows) * len(self._sizes)
        for head, choices in enumerate(self._sizes):
            measured = self._head(*_unpacked(numbers[head * len(rows) : (head + 1) * len(rows)], len(parts)))
            if self._decisions and measured.measurement.entropy is not None:
                measured = _with_decisions(measured, numbers[decisions : decisions + 3 + 2 * choices])
            decisions += 3 + 2 * choices
            found.append(measured)
        return found

    def _decided(self) -> list[Tensor]:
        """A row of numbers of each head, see ``decision_row``, from the epoch that has just ended."""
        probabilities, entropies = _by_head(self._probabilities), _by_head(self._entropies)
        masks = _by_head(self._masks) if self._masks else [None] * len(self._sizes)
        self._probabilities = []
        return [
            decision_row(*steps, _exact(steps[2]))
            for steps in zip(probabilities, masks, entropies, strict=True)
        ]

    def _reduced(self) -> Tensor:
        """Sums over the minibatches since the last whole epoch, (8, H); they are dropped."""
        if not self._entropies:
            return torch.zeros_like(self._epochs[-1])
        entropies = torch.stack(_by_head(self._entropies))
        valid = [masks.sum(1) for masks in _by_head(self._masks)]
        self._entropies, self._masks = [], []
        return _step_sums(entropies, torch.stack(valid) if valid else None)

    def _head(self, parts: list[HeadEpochSums], gradients: HeadGradientSums) -> MeasuredHead:
        *epochs, _ = parts  # the last part is an epoch that was cut short
        nonfinite = HeadMeasurement(
            nan_steps=int(math.fsum(part.nan for part in parts)),
            inf_steps=int(math.fsum(part.inf for part in parts)),
            nan_gradients=int(gradients.nan),
            inf_gradients=int(gradients.inf),
        )
        all_masked = int(max(part.all_masked for part in parts))
        if all_masked or not any(epoch.finite for epoch in epochs):
            return MeasuredHead(nonfinite, all_masked)
        choosing = [epoch for epoch in epochs if epoch.finite_choice]
        share = epochs[0].choice / self._epoch_steps if self._masked else None
        measurement = replace(
            nonfinite,
            entropy=fmean(epoch.entropy / epoch.finite for epoch in epochs if epoch.finite),
            choice_entropy=fmean(e.choice_entropy / e.finite_choice for e in choosing) if choosing else None,
            choice_share=share,
            open_share=share,
            gradient_norm=gradients.norm / gradients.finite if gradients.finite else None,
        )
        return MeasuredHead(measurement, 0)


def _with_decisions(measured: MeasuredHead, row: list[float]) -> MeasuredHead:
    decisions = Decisions.unpacked(row)
    information = decisions.state_information
    measurement = replace(
        measured.measurement,
        state_information=information.nats,
        state_information_ratio=information.ratio,
        action_shares=decisions.action_shares,
    )
    return measured._replace(measurement=measurement)


def _unpacked(column: list[float], parts: int) -> tuple[list[HeadEpochSums], HeadGradientSums]:
    """One head's sums by name: those of each part of the update, then those of its gradients."""
    width = len(HeadEpochSums._fields)
    starts = range(0, parts * width, width)
    epochs = [HeadEpochSums(*column[start : start + width]) for start in starts]
    return epochs, HeadGradientSums(*column[parts * width :])


def _by_head(minibatches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """All steps of each head, (steps, …), from (B, …) for each head of each minibatch."""
    return [torch.cat(parts) for parts in zip(*minibatches, strict=True)]


@torch.no_grad()
def _step_sums(entropy: Tensor, valid: Tensor | None) -> Tensor:
    """``EpochSums`` stacked, (8, H), from entropies and valid choices (H, steps)."""
    finite = torch.isfinite(entropy)
    zeros = torch.zeros_like(finite)
    choice = zeros if valid is None else valid >= 2
    finite_choice = choice & finite
    ratio = entropy if valid is None else entropy / valid.clamp(min=2).log()
    sums = EpochSums(
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
    """``HeadGradientSums`` stacked, (4, H), from the norms of rows (optimiser steps, Σn)."""
    if row_norms is None:
        return torch.zeros(len(HeadGradientSums._fields), len(sizes))
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
