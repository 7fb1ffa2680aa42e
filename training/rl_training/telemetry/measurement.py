"""From the minibatches of one update to its sums, on the device and without a loop over heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.epochs import (
    EpochSteps,
    entropy_sums,
    gradient_sums,
    nonfinite_steps,
    ratio_sums,
)
from rl_exporter.integrations.meter.layout import Columns, HeadLayout, LayoutPart
from rl_exporter.integrations.meter.margin import AdvantageSums
from rl_exporter.integrations.meter.preference import ChoiceSteps
from rl_exporter.integrations.meter.softmax import MaskBits, Softmax, wide_logits
from rl_exporter.integrations.meter.sums import Preferences, UpdateSums, decision_sums
from rl_training.policy.rollout import Rollout

_STEPS_AT_A_TIME = 8192
"""Steps that are evaluated together: fewer would wait for Python, more would not fit the cache."""


class MinibatchTelemetry(NamedTuple):
    """What the loss of one minibatch computed: T steps of B environments, H heads. Nothing carries a gradient.

    The last three are sums over all ranks, the others are of this rank's environments.
    """

    environments: Tensor
    """(B,) indices of the environments."""
    logits: Tensor
    """(T, B, Σn)"""
    choice: Tensor
    """(T, B, H) bool, choice steps."""
    entropy: Tensor
    """(T, B, H) nats, under the evaluated mask; NaN where a logit of a valid action is not finite."""
    peak: Tensor
    """(T, B, H) largest logit of a valid action, NaN where one of them is NaN."""
    ratio: Tensor
    """(T, B, H) importance ratio; 1 where the head had no choice."""
    kl_sum: Tensor
    policy_loss: Tensor
    value_loss: Tensor


class OptimizerStep(NamedTuple):
    """One minibatch and the gradients that it gave, before clipping."""

    minibatch: MinibatchTelemetry
    gradient_norm: Tensor
    """Norm of the whole gradient, a scalar."""
    head_gradient_norms: Tensor
    """(H,) norm of the gradient of each head's own parameters."""


class RunSums(NamedTuple):
    """What the update knows of the whole policy beside its minibatches, scalars."""

    explained_variance: Tensor
    kl_divergence: Tensor
    """Of the policy after the update from the one that acted, a sum over this rank's steps."""


@torch.no_grad()
def measure(
    optimizer_steps: Sequence[OptimizerStep],
    epoch_ends: Sequence[int],
    rollout: Rollout,
    layout: HeadLayout,
    clip: float,
    run: RunSums,
    preferences: Preferences[Tensor],
    advantages: AdvantageSums,
) -> UpdateSums[Tensor]:
    """The sums of one update; ``epoch_ends`` counts the optimiser steps before the end of each whole epoch.

    All epochs are summed together: sums of each minibatch would take ten times as long.
    """
    epochs, whole = len(epoch_ends), epoch_ends[-1] if epoch_ends else 0
    minibatches = [step.minibatch for step in optimizer_steps]
    environments = torch.cat([minibatch.environments for minibatch in minibatches])
    decided = torch.cat([minibatch.entropy for minibatch in minibatches], 1)
    entropy, peak = _under_step_masks(minibatches, decided, rollout, layout)

    # Minibatches lie side by side in the order of time, so an aborted epoch occupies the last columns.
    columns = sum(len(minibatch.environments) for minibatch in minibatches[:whole])
    choice = torch.cat([minibatch.choice for minibatch in minibatches], 1)[:, :columns]
    log_valid = rollout.log_valid_choices.index_select(1, environments[:columns])
    ratio = torch.cat([minibatch.ratio for minibatch in minibatches], 1)[:, :columns]
    return UpdateSums(
        failed=run.explained_variance.new_zeros(()),
        explained_variance=run.explained_variance,
        kl_divergence=run.kl_divergence,
        **nonfinite_steps(entropy, peak),
        **decision_sums(preferences, advantages),
        **entropy_sums(EpochSteps(entropy[:, :columns], decided[:, :columns], log_valid, choice), epochs),
        **ratio_sums(ratio, choice, clip, epochs),
        **_loss_sums(optimizer_steps, whole, epochs),
        **gradient_sums(torch.stack([step.head_gradient_norms for step in optimizer_steps]), whole),
    )


@torch.no_grad()
def choice_steps(epoch: Sequence[tuple[MinibatchTelemetry, Columns]], layout: HeadLayout) -> ChoiceSteps:
    """What the heads decided at each step of one epoch; one with logits that are not finite does not count."""
    entropy = _side_by_side(minibatch.entropy.movedim(-1, 0) for minibatch, _ in epoch)
    choice = _side_by_side(minibatch.choice.movedim(-1, 0) for minibatch, _ in epoch)
    parts = zip(*(columns for _, columns in epoch), strict=True)
    valid, weights, total = map(_side_by_side, parts)
    choosing = choice & ~entropy.isnan()
    deciding = (valid & layout.spread(choosing)).to(weights.dtype)
    probabilities = (weights / layout.spread(total)).nan_to_num_(0.0).mul_(deciding)
    return ChoiceSteps(probabilities, deciding, torch.where(choosing, entropy, 0.0))


def _side_by_side(minibatches: Iterable[Tensor]) -> Tensor:
    """Minibatches (K, T, B) as (K, steps)."""
    return torch.cat([minibatch.flatten(1) for minibatch in minibatches], 1)


def _under_step_masks(
    minibatches: Sequence[MinibatchTelemetry], decided: Tensor, rollout: Rollout, layout: HeadLayout
) -> tuple[Tensor, Tensor]:
    """Entropy and largest logit under the step masks, over all minibatches, (T, columns, H) each.

    The loss has computed them already, but for the heads whose choice depends on the operation.
    """
    peak = torch.cat([minibatch.peak for minibatch in minibatches], 1)
    if not rollout.dependent_heads:
        return decided, peak
    part = layout.part(rollout.dependent_heads)
    bits = MaskBits.of(rollout.step_masks.index_select(-1, part.columns), peak.dtype)
    many = max(1, _STEPS_AT_A_TIME // minibatches[0].entropy[..., 0].numel())
    entropies, peaks = [], []
    for first in range(0, len(minibatches), many):
        distribution = _distributions(minibatches[first : first + many], bits, part)
        entropies.append(distribution.entropy())
        peaks.append(distribution.peak)
    entropy = decided.index_copy(-1, part.heads, torch.cat(entropies, 2).movedim(0, -1))
    return entropy, peak.index_copy_(-1, part.heads, torch.cat(peaks, 2).movedim(0, -1))


def _distributions(minibatches: Sequence[MinibatchTelemetry], bits: MaskBits, part: LayoutPart) -> Softmax:
    """The distributions of some heads under other masks than those of the loss."""
    logits = torch.cat([minibatch.logits for minibatch in minibatches], 1).index_select(-1, part.columns)
    visited = torch.cat([minibatch.environments for minibatch in minibatches])
    own = MaskBits(*(half.index_select(1, visited) for half in bits))
    return Softmax(own.scores(wide_logits(logits)).movedim(-1, 0).contiguous(), part.layout)


def _loss_sums(optimizer_steps: Sequence[OptimizerStep], whole: int, epochs: int) -> dict[str, Tensor]:
    """(epochs,) each. One stack of all numbers, because a stack takes as long as ten sums."""
    steps = optimizer_steps[:whole]
    values = {
        "gradient_norm": [step.gradient_norm for step in steps],
        "policy_loss": [step.minibatch.policy_loss for step in steps],
        "value_loss": [step.minibatch.value_loss for step in steps],
    }
    like = optimizer_steps[0].gradient_norm
    count = like.new_full((epochs,), whole / max(1, epochs))
    if not steps:
        return {**dict.fromkeys(values, like.new_zeros(0)), "optimizer_steps": count}
    stacked = torch.stack([number for numbers in values.values() for number in numbers])
    by_epoch = stacked.reshape(len(values), epochs, -1).sum(2, dtype=torch.float64)
    return {**dict(zip(values, by_epoch, strict=True)), "optimizer_steps": count}
