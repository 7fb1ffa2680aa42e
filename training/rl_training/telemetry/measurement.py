"""From the minibatches of one update to its sums, on the device and without a loop over heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.distributions import HeadLayout
from rl_training.policy.rollout import Rollout
from rl_training.telemetry.margin import AdvantageSums
from rl_training.telemetry.preference import ChoiceSteps, Preferences
from rl_training.telemetry.softmax import MaskBits, Softmax, wide_logits
from rl_training.telemetry.sums import UpdateSums


class MinibatchTelemetry(NamedTuple):
    """What the loss of one minibatch computed: T steps of B environments, H heads. Nothing carries a gradient.

    The last three are sums over all ranks, the others are of this rank's environments.
    """

    environments: Tensor
    """(B,) indices of the environments."""
    logits: Tensor
    """(T, B, Σn)"""
    entropy: Tensor
    """(T, B, H) nats, under the decision mask."""
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


@torch.no_grad()
def measure(
    optimizer_steps: Sequence[OptimizerStep],
    epoch_ends: Sequence[int],
    rollout: Rollout,
    layout: HeadLayout,
    clip: float,
    explained_variance: Tensor,
    preferences: Preferences,
    advantages: AdvantageSums,
) -> UpdateSums:
    """The sums of one update; ``epoch_ends`` counts the optimiser steps before the end of each whole epoch.

    All epochs are summed together: sums of each minibatch would take ten times as long.
    """
    epochs, whole = len(epoch_ends), epoch_ends[-1] if epoch_ends else 0
    minibatches = [step.minibatch for step in optimizer_steps]
    environments = torch.cat([minibatch.environments for minibatch in minibatches])
    decided = torch.cat([minibatch.entropy for minibatch in minibatches], 1)
    per_epoch = epoch_ends[0] if epoch_ends else len(minibatches)
    entropy, peak = _under_step_masks(minibatches, per_epoch, decided, rollout, layout)

    # Minibatches lie side by side in the order of time, so an aborted epoch occupies the last columns.
    columns = sum(len(minibatch.environments) for minibatch in minibatches[:whole])
    visited = environments[:columns]
    choice = rollout.choice.index_select(1, visited)
    log_valid = rollout.log_valid_choices.index_select(1, visited)
    ratio = torch.cat([minibatch.ratio for minibatch in minibatches], 1)[:, :columns]
    return UpdateSums(
        failed=explained_variance.new_zeros(()),
        explained_variance=explained_variance,
        **_nonfinite_steps(entropy, peak),
        action_probability=preferences.probability,
        decision_entropy=preferences.entropy,
        log_normalizer=preferences.log_normalizer,
        preference_weights=preferences.weights,
        sampled_steps=advantages.steps,
        sampled_advantage=advantages.total,
        sampled_advantage_square=advantages.squares,
        **entropy_sums(EpochSteps(entropy[:, :columns], decided[:, :columns], log_valid, choice), epochs),
        **_ratio_sums(ratio, choice, clip, epochs),
        **_loss_sums(optimizer_steps, whole, epochs),
        **_gradient_sums(torch.stack([step.head_gradient_norms for step in optimizer_steps]), whole),
    )


@torch.no_grad()
def choice_steps(epoch: Sequence[OptimizerStep], rollout: Rollout, layout: HeadLayout) -> ChoiceSteps:
    """What the heads decided at each step of one epoch; one with logits that are not finite does not count."""
    minibatches = [step.minibatch for step in epoch]
    environments = torch.cat([minibatch.environments for minibatch in minibatches])
    entropy = _columns(torch.cat([minibatch.entropy for minibatch in minibatches], 1))
    choosing = _columns(rollout.choice.index_select(1, environments)) & torch.isfinite(entropy)
    logits = _columns(wide_logits(torch.cat([minibatch.logits for minibatch in minibatches], 1)))
    masks = _columns(rollout.decision_masks.index_select(1, environments))
    mask = masks & layout.spread(choosing)
    valid = mask.to(logits.dtype)
    probabilities = Softmax(MaskBits.of(mask, logits.dtype).scores(logits), layout).probabilities()
    # Where a head has no valid action left, its probabilities are equal and finite.
    return ChoiceSteps(probabilities.mul_(valid), valid, torch.where(choosing, entropy, 0.0))


def _columns(rows: Tensor) -> Tensor:
    """(T, B, K) as (K, T * B)."""
    return rows.flatten(0, 1).T.contiguous()


def entropy_sums(steps: EpochSteps, epochs: int) -> dict[str, Tensor]:
    """Sums and counts of entropy over every step, and of H / ln v over the choice steps, (epochs, H) each."""
    entropy, decided, log_valid, choice = steps
    measured = torch.isfinite(entropy)
    # A choice step has two valid actions or more, so ln v is at least ln 2; elsewhere the quotient is not used.
    choosing = choice & torch.isfinite(decided)
    sums = {
        "entropy": torch.where(measured, entropy, 0.0),
        "entropy_steps": measured,
        "choice_entropy": torch.where(choosing, decided / log_valid, 0.0),
        "choice_entropy_steps": choosing,
    }
    return {name: _sum_by_epoch(values, epochs) for name, values in sums.items()}


def _under_step_masks(
    minibatches: Sequence[MinibatchTelemetry],
    per_epoch: int,
    decided: Tensor,
    rollout: Rollout,
    layout: HeadLayout,
) -> tuple[Tensor, Tensor]:
    """Entropy and largest logit under the step masks, over all minibatches, (T, columns, H) each.

    One epoch at a time: its intermediate results fit the cache, and memory that the last one has freed.
    """
    if rollout.step_masks is rollout.decision_masks:
        # Masks that depend on no operation: the loss has already computed this.
        return decided, torch.cat([minibatch.peak for minibatch in minibatches], 1)
    bits = MaskBits.of(rollout.step_masks, wide_logits(minibatches[0].logits).dtype)
    entropies, peaks = [], []
    for first in range(0, len(minibatches), per_epoch):
        epoch = minibatches[first : first + per_epoch]
        logits = wide_logits(torch.cat([minibatch.logits for minibatch in epoch], 1))
        environments = torch.cat([minibatch.environments for minibatch in epoch])
        scores = MaskBits(*(part.index_select(1, environments) for part in bits)).scores(logits)
        distribution = Softmax(scores.movedim(-1, 0).contiguous(), layout)
        entropies.append(distribution.entropy())
        peaks.append(distribution.peak)
    return torch.cat(entropies, 2).movedim(0, -1), torch.cat(peaks, 2).movedim(0, -1)


def _nonfinite_steps(entropy: Tensor, peak: Tensor) -> dict[str, Tensor]:
    # An entropy is NaN for an infinite logit as for a NaN; only the largest logit tells the two apart.
    nan = torch.isnan(peak).sum((0, 1))
    return {"nan_steps": nan, "inf_steps": torch.isnan(entropy).sum((0, 1)) - nan}


def _ratio_sums(ratio: Tensor, choice: Tensor, clip: float, epochs: int) -> dict[str, Tensor]:
    outside = ((ratio < 1 - clip) | (ratio > 1 + clip)) & choice
    # A head that decided nothing has the ratio 1, which must not pass for its largest.
    ratios = torch.where(choice, ratio, 0.0).flatten(0, 1)
    return {
        "clipped_steps": _sum_by_epoch(outside.any(-1, keepdim=True), epochs).squeeze(-1),
        "importance_ratio_max": ratios.amax(0) if epochs else ratios.new_zeros(ratios.shape[-1]),
    }


def _loss_sums(optimizer_steps: Sequence[OptimizerStep], whole: int, epochs: int) -> dict[str, Tensor]:
    minibatches = [step.minibatch for step in optimizer_steps]
    norms = torch.stack([step.gradient_norm for step in optimizer_steps])
    values = {
        "kl_divergence": torch.stack([minibatch.kl_sum for minibatch in minibatches]),
        "gradient_norm": norms,
        "policy_loss": torch.stack([minibatch.policy_loss for minibatch in minibatches]),
        "value_loss": torch.stack([minibatch.value_loss for minibatch in minibatches]),
        "optimizer_steps": torch.ones_like(norms),
    }
    shape = epochs, whole // max(1, epochs)
    return {name: value[:whole].double().reshape(shape).sum(1) for name, value in values.items()}


def _gradient_sums(norms: Tensor, whole: int) -> dict[str, Tensor]:
    """(H,) each, from norms (optimiser steps, H)."""
    norms = norms.double()
    finite = torch.isfinite(norms)
    return {
        "head_gradient_norm": torch.where(finite, norms, 0.0)[:whole].sum(0),
        "head_gradient_steps": finite[:whole].sum(0),
        "nan_gradients": torch.isnan(norms).sum(0),
        "inf_gradients": torch.isinf(norms).sum(0),
    }


def _sum_by_epoch(values: Tensor, epochs: int) -> Tensor:
    """(T, epochs * N, K) summed over the steps of each epoch, (epochs, K).

    In float64: a float32 sum over 10^5 steps would lose the digits that a slope is made of.
    """
    steps, columns, kinds = values.shape
    by_epoch = values.reshape(steps, epochs, columns // max(1, epochs), kinds)
    return by_epoch.sum((0, 2), dtype=torch.float64)
