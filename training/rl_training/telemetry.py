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
    """Keeps what the minibatches leave behind, and reduces it once per update, on the device.

    Reducing all epochs together costs a tenth of doing it per minibatch. An aborted epoch is dropped as
    a whole. Per epoch one row of float64: for each head entropy sum and count (step mask, every step),
    choice entropy sum and count (decision mask, choice steps); then clipped steps, KL sum, optimiser
    steps, gradient norms, policy losses, value losses.
    """

    def __init__(self, heads: Heads, rollout: Rollout, *, enabled: bool = True) -> None:
        self._heads = heads
        self._rollout = rollout
        self._enabled = enabled
        self._epochs: list[list[MinibatchTelemetry]] = []
        self._scalars: list[list[Tensor]] = []

    def begin_epoch(self) -> None:
        """Start a new epoch."""
        self._epochs.append([])
        self._scalars.append([])

    def abort_epoch(self) -> None:
        """Drop an epoch that did not visit every step."""
        self._epochs.pop()
        self._scalars.pop()

    def add(self, batch: MinibatchTelemetry, gradient_norm: Tensor) -> None:
        """Add one minibatch to the present epoch: nothing is computed or synchronised here."""
        if self._enabled:
            self._epochs[-1].append(batch)
            self._scalars[-1] += [batch.kl_sum, gradient_norm, batch.policy_loss, batch.value_loss]

    @torch.no_grad()
    def _reduce(self) -> Tensor:
        """(epochs, 4 H + 6) float64."""
        rollout, batches = self._rollout, [batch for epoch in self._epochs for batch in epoch]
        order = torch.cat([batch.environments for batch in batches])
        decided = torch.cat([batch.entropy for batch in batches], 1)
        entropy = decided
        if rollout.step_masks is not rollout.decision_masks:
            layout = HeadLayout(self._heads.names, [h.choices for h in self._heads], decided.device)
            logits = torch.cat([batch.logits for batch in batches], 1)
            masks = rollout.step_masks[:, order]
            entropy = MaskedCategorical(logits, masks, layout, validate=False).entropy
        choosing = rollout.choice[:, order]
        outside = torch.cat([batch.outside for batch in batches], 1)
        choice = choosing & torch.isfinite(decided)
        measured = torch.isfinite(entropy)
        relative = decided / rollout.valid_choices.float().log()[:, order]
        parts = [
            entropy.masked_fill(~measured, 0.0),
            measured,
            relative.masked_fill(~choice, 0.0),
            choice,
            (outside & choosing).any(-1, keepdim=True),
        ]
        epochs = len(self._epochs)
        sums = [
            part.reshape(len(part), epochs, -1, part.shape[-1]).sum((0, 2), dtype=torch.float64)
            for part in parts
        ]
        scalars = torch.stack([torch.stack(row) for row in self._scalars]).double()
        kl, *means = scalars.reshape(epochs, -1, 4).sum(1).unbind(1)
        steps = torch.full_like(kl, scalars.shape[1] / 4)
        return torch.cat([*sums, torch.stack([kl, steps, *means], 1)], 1)

    def result(self, explained_variance: Tensor, *, nonfinite: bool) -> UpdateResult:
        """Move everything to the host at once and divide sums by counts, each over a whole epoch."""
        names = self._heads.names
        choice_share = dict(zip(names, self._rollout.choice_share, strict=True))
        open_share = dict(zip(names, self._rollout.open_share, strict=True))
        if not self._epochs or not self._enabled:
            empty: dict[str, tuple[float, ...]] = dict.fromkeys(names, ())
            return UpdateResult(
                head_entropy_history=empty,
                head_choice_entropy_history=empty,
                nonfinite=nonfinite,
                choice_share=choice_share,
                open_share=open_share,
            )
        reduced = self._reduce()
        last = torch.zeros_like(reduced[:1])
        last[0, 0] = explained_variance
        *rows, (explained, *_) = torch.cat([reduced, last]).tolist()
        heads = len(names)
        scalars = [row[4 * heads :] for row in rows]
        steps = math.fsum(row[2] for row in scalars)
        return UpdateResult(
            head_entropy_history=_means(names, rows, 0),
            head_choice_entropy_history=_means(names, rows, 2 * heads),
            kl_divergence=scalars[-1][1] / self._rollout.steps,
            clipped_share=math.fsum(row[0] for row in scalars) / (len(rows) * self._rollout.steps),
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
