"""What one update measured, on the host: sums over whole epochs divided by counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.rollout import Rollout
from rl_training.telemetry.measurement import epoch_means


class NonfiniteCounts(NamedTuple):
    """Steps and optimiser steps of one update at which something of a head was not finite."""

    nan_steps: int = 0
    inf_steps: int = 0
    nan_gradients: int = 0
    inf_gradients: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What one update measured, by head name where it is a mapping.

    Histories hold one mean per whole epoch, so they may be empty. ``nonfinite``: an optimiser step was
    skipped. ``error``: what went wrong inside telemetry; everything else is then empty.
    """

    head_entropy_history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    head_choice_entropy_history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    choice_share: Mapping[str, float] = field(default_factory=dict)
    open_share: Mapping[str, float] = field(default_factory=dict)
    head_gradient_norm: Mapping[str, float] = field(default_factory=dict)
    head_importance_ratio_max: Mapping[str, float] = field(default_factory=dict)
    head_nonfinite: Mapping[str, NonfiniteCounts] = field(default_factory=dict)
    kl_divergence: float | None = None
    clipped_share: float | None = None
    gradient_norm: float | None = None
    policy_loss: float | None = None
    value_loss: float | None = None
    explained_variance: float | None = None
    nonfinite: bool = False
    error: Exception | None = None


class Reduction(NamedTuple):
    """One update's sums and counts on the device, float64, for E whole epochs and H heads.

    epochs     (E, 4 H + 1) entropy sum and count under the step mask, choice entropy sum and count under
               the decision mask at choice steps, steps with an importance ratio outside the clip range;
               of one rank's environments
    heads      (3, H) steps with NaN logits, with infinite logits, largest importance ratio (0: no choice);
               of one rank's environments
    scalars    (E, 5) sums over the minibatches: KL, gradient norm, policy loss, value loss, 1
    gradients  (4, H) optimiser steps with NaN norm, with infinite norm; sum and count of the finite norms

    ``scalars`` and ``gradients`` are of all ranks, and the same on each.
    """

    epochs: Tensor
    heads: Tensor
    scalars: Tensor
    gradients: Tensor

    def row(self, *, failed: bool) -> Tensor:
        """What differs between ranks, flat; its first number is 1 when this rank ``failed`` to measure."""
        flag = self.epochs.new_tensor([failed], dtype=torch.float64)
        return torch.cat([flag, self.epochs.double().flatten(), self.heads.double().flatten()])

    def of_all(self, rows: Tensor) -> tuple[Tensor, Reduction]:
        """How many ranks failed, (1, 1), and the reduction over the ranks whose rows these are."""
        total = rows.sum(0)
        flags, epochs, heads = torch.split(total, [1, self.epochs.numel(), self.heads.numel()])
        largest = rows[:, -self.heads.shape[1] :].amax(0, keepdim=True)
        heads = torch.cat([heads.view_as(self.heads)[:2], largest])
        return flags.view(1, 1), self._replace(epochs=epochs.view_as(self.epochs), heads=heads)


class RankTelemetryError(RuntimeError):
    """Another rank could not measure an update, so that nothing is known of its environments."""


def summarize(
    own: Reduction,
    rows: Tensor,
    explained_variance: Tensor,
    names: Sequence[str],
    rollout: Rollout,
    *,
    nonfinite: bool,
) -> UpdateResult:
    """Move the reduction over all ranks to the host, all of it at once, and divide. ``rows``: one a rank."""
    flags, reduction = own.of_all(rows)
    parts = [*reduction, explained_variance.reshape(1, 1), flags]
    flat = iter(torch.cat([part.double().flatten() for part in parts]).tolist())
    epochs, heads, scalars, gradients, ((explained,),), ((failed,),) = (
        [[next(flat) for _ in range(part.shape[1])] for _ in range(part.shape[0])] for part in parts
    )
    if failed:
        raise RankTelemetryError(f"{failed:.0f} other ranks could not measure this update; their logs say why")
    entropy, choice_entropy = epoch_means(epochs, len(names))
    nan_steps, inf_steps, largest = heads
    nan_gradients, inf_gradients, norm_sums, norm_counts = gradients
    return UpdateResult(
        head_entropy_history=dict(zip(names, entropy, strict=True)),
        head_choice_entropy_history=dict(zip(names, choice_entropy, strict=True)),
        choice_share=dict(zip(names, rollout.choice_share, strict=True)),
        open_share=dict(zip(names, rollout.open_share, strict=True)),
        head_gradient_norm={
            name: total / count
            for name, total, count in zip(names, norm_sums, norm_counts, strict=True)
            if count
        },
        head_importance_ratio_max={
            name: ratio for name, ratio in zip(names, largest, strict=True) if epochs and ratio > 0
        },
        head_nonfinite={
            name: NonfiniteCounts(*map(int, counts))
            for name, *counts in zip(names, nan_steps, inf_steps, nan_gradients, inf_gradients, strict=True)
            if any(counts)
        },
        nonfinite=nonfinite,
        **(_run_scalars(epochs, scalars, rollout.steps) | {"explained_variance": explained} if epochs else {}),
    )


def _run_scalars(epochs: list[list[float]], scalars: list[list[float]], steps: int) -> dict[str, float]:
    """KL of the last epoch, the share of clipped steps, and means over the optimiser steps."""
    norm, policy_loss, value_loss, minibatches = (
        math.fsum(column) for column in list(zip(*scalars, strict=True))[1:]
    )
    return {
        "kl_divergence": scalars[-1][0] / steps,
        "clipped_share": math.fsum(row[-1] for row in epochs) / (len(epochs) * steps),
        "gradient_norm": norm / minibatches,
        "policy_loss": policy_loss / minibatches,
        "value_loss": value_loss / minibatches,
    }
