"""What an update measures of the policy: sums per epoch, kept on the device and moved once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.heads import Heads
from rl_training.distributions import HeadLayout, MaskedCategorical
from rl_training.rollout import Rollout


class MinibatchTelemetry(NamedTuple):
    """What one minibatch leaves behind for telemetry; nothing here carries a gradient."""

    environments: Tensor  # (B,)
    logits: Tensor  # (T, B, Σn)
    entropy: Tensor  # (T, B, H), nats, under the decision mask
    kl_sum: Tensor
    outside: Tensor  # (T, B, H) bool: the importance ratio left the clip range
    policy_loss: Tensor
    value_loss: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What one update measured. Histories hold one mean per whole epoch, so they may be empty."""

    head_entropy_history: Mapping[str, tuple[float, ...]]
    head_choice_entropy_history: Mapping[str, tuple[float, ...]]
    choice_share: Mapping[str, float]
    open_share: Mapping[str, float]
    kl_divergence: float | None = None
    clipped_share: float | None = None
    gradient_norm: float | None = None
    policy_loss: float | None = None
    value_loss: float | None = None
    explained_variance: float | None = None
    nonfinite: bool = False


class EpochSums:
    """Sums over the steps of each epoch; an aborted epoch is dropped as a whole.

    Per epoch one row of float64: for each head entropy sum and count (step mask, every step), choice
    entropy sum and count (decision mask, choice steps); then KL sum, clipped steps, optimiser steps,
    gradient norms, policy losses, value losses.
    """

    _SCALARS = 6

    def __init__(self, heads: Heads, rollout: Rollout, *, enabled: bool = True) -> None:
        self._heads = heads
        self._rollout = rollout
        self._enabled = enabled
        device = rollout.values.device
        self._layout = HeadLayout(heads.names, [head.choices for head in heads], device)
        self._log_valid = rollout.valid_choices.double().log()
        self._rows: list[Tensor] = []

    def begin_epoch(self) -> None:
        """Start a row for a new epoch."""
        width = 4 * len(self._heads) + self._SCALARS
        self._rows.append(torch.zeros(width, dtype=torch.float64, device=self._log_valid.device))

    def abort_epoch(self) -> None:
        """Drop the row of an epoch that did not visit every step."""
        self._rows.pop()

    @torch.no_grad()
    def add(self, batch: MinibatchTelemetry, gradient_norm: Tensor) -> None:
        """Add one minibatch to the present epoch. No synchronisation happens here."""
        if not self._enabled:
            return
        rollout, index = self._rollout, batch.environments
        entropy = batch.entropy
        if rollout.step_masks is not rollout.decision_masks:
            masks = rollout.step_masks[:, index]
            entropy = MaskedCategorical(batch.logits, masks, self._layout, validate=False).entropy
        choice = rollout.choice[:, index] & torch.isfinite(batch.entropy)
        relative = batch.entropy.double() / self._log_valid[:, index]
        measured = torch.isfinite(entropy)
        clipped = (batch.outside & rollout.choice[:, index]).any(-1)
        one = batch.kl_sum.new_ones(())
        self._rows[-1] += torch.cat(
            [
                entropy.double().masked_fill(~measured, 0.0).sum((0, 1)),
                measured.double().sum((0, 1)),
                relative.masked_fill(~choice, 0.0).sum((0, 1)),
                choice.double().sum((0, 1)),
                torch.stack(
                    [
                        batch.kl_sum,
                        clipped.sum().to(one.dtype),
                        one,
                        gradient_norm,
                        batch.policy_loss,
                        batch.value_loss,
                    ]
                ).double(),
            ]
        )

    def result(self, explained_variance: Tensor, *, nonfinite: bool) -> UpdateResult:
        """Move everything to the host at once and divide sums by counts, each over a whole epoch."""
        names = self._heads.names
        choice_share = dict(zip(names, self._rollout.choice_share, strict=True))
        open_share = dict(zip(names, self._rollout.open_share, strict=True))
        if not self._rows or not self._enabled:
            empty: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
            return UpdateResult(
                head_entropy_history=empty,
                head_choice_entropy_history=empty,
                nonfinite=nonfinite,
                choice_share=choice_share,
                open_share=open_share,
            )
        last = torch.zeros_like(self._rows[0])
        last[0] = explained_variance
        *rows, (explained, *_) = torch.stack([*self._rows, last]).tolist()
        heads = len(names)
        scalars = [row[4 * heads :] for row in rows]
        steps = math.fsum(row[2] for row in scalars)
        return UpdateResult(
            head_entropy_history=_means(names, rows, 0),
            head_choice_entropy_history=_means(names, rows, 2 * heads),
            kl_divergence=scalars[-1][0] / self._rollout.steps,
            clipped_share=math.fsum(row[1] for row in scalars) / (len(rows) * self._rollout.steps),
            gradient_norm=math.fsum(row[3] for row in scalars) / steps,
            policy_loss=math.fsum(row[4] for row in scalars) / steps,
            value_loss=math.fsum(row[5] for row in scalars) / steps,
            explained_variance=explained,
            nonfinite=nonfinite,
            choice_share=choice_share,
            open_share=open_share,
        )


def _means(names: tuple[str, ...], rows: list[list[float]], at: int) -> dict[str, tuple[float, ...]]:
    """Per head one mean per epoch: the sum at ``at`` over the count that follows all sums."""
    heads = len(names)
    return {
        name: tuple(row[at + i] / row[at + heads + i] for row in rows if row[at + heads + i] > 0)
        for i, name in enumerate(names)
    }
