"""What one update measured, on the host: sums over whole epochs divided by counts, once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from rl_exporter.decisions import Information, Margin, margin, state_information
from rl_exporter.numbers import PolicyNumbers
from rl_training.policy.distributions import HeadLayout
from rl_training.policy.rollout import Rollout
from rl_training.telemetry.margin import AdvantageSums
from rl_training.telemetry.sums import FloatArray, UpdateSums


class NonfiniteCounts(NamedTuple):
    """Steps and optimiser steps of one update at which something of a head was not finite."""

    nan_steps: int = 0
    inf_steps: int = 0
    nan_gradients: int = 0
    inf_gradients: int = 0


@dataclass(frozen=True, kw_only=True)
class UpdateResult(PolicyNumbers):
    """What one update measured; mappings are by head name, entropies in nats.

    Histories hold one mean per whole epoch, so an update that aborted its first epoch leaves them empty.
    """

    head_entropy_history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    head_choice_entropy_history: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """H / ln v; an epoch without a choice step of the head has no entry."""
    choice_share: Mapping[str, float] = field(default_factory=dict)
    open_share: Mapping[str, float] = field(default_factory=dict)
    head_gradient_norm: Mapping[str, float] = field(default_factory=dict)
    """Mean of the finite norms; a head without any is absent."""
    head_importance_ratio_max: Mapping[str, float] = field(default_factory=dict)
    """A head without a choice step is absent."""
    head_action_shares: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Mean probability of each action over the choice steps; a head without one is absent."""
    head_state_information: Mapping[str, Information] = field(default_factory=dict)
    """In nats; a head with too few choice steps is absent."""
    head_advantage_margin: Mapping[str, Margin] = field(default_factory=dict)
    advantage_sums: AdvantageSums | None = None
    """Decayed sums up to this update; None where telemetry failed."""
    head_nonfinite: Mapping[str, NonfiniteCounts] = field(default_factory=dict)
    """Only heads that had something to count."""
    nonfinite: bool = False
    """PPO skipped an optimiser step because a loss or gradient was not finite."""
    error: Exception | None = None
    """What went wrong inside telemetry; every number is then absent."""


class RankTelemetryError(RuntimeError):
    """Another rank could not measure an update, so nothing is known of its environments."""


def divide(
    sums: UpdateSums[FloatArray],
    layout: HeadLayout,
    rollout: Rollout,
    former: AdvantageSums,
    *,
    nonfinite: bool,
) -> UpdateResult:
    """The means of one update from the sums of all ranks, on the host. Raises RankTelemetryError."""
    if sums.failed:
        raise RankTelemetryError(
            f"{sums.failed.item():.0f} other ranks could not measure this update; their logs say why"
        )
    # Without a whole epoch there is nothing to divide by, and a head without an entropy was not measured.
    any_epoch = len(sums.optimizer_steps) > 0
    names = layout.names
    sampled = (sums.sampled_steps, sums.sampled_advantage, sums.sampled_advantage_square)
    advantages = former.after(AdvantageSums(*map(torch.from_numpy, sampled)))
    ratios = zip(names, sums.importance_ratio_max.tolist(), strict=True)
    return UpdateResult(
        head_entropy_history=epoch_means(names, sums.entropy, sums.entropy_steps),
        head_choice_entropy_history=epoch_means(names, sums.choice_entropy, sums.choice_entropy_steps),
        choice_share=dict(zip(names, rollout.choice_share, strict=True)),
        open_share=dict(zip(names, rollout.open_share, strict=True)),
        head_gradient_norm=_means(names, sums.head_gradient_norm, sums.head_gradient_steps),
        head_importance_ratio_max={name: ratio for name, ratio in ratios if any_epoch and ratio > 0},
        head_nonfinite=_nonfinite(names, sums),
        advantage_sums=advantages,
        nonfinite=nonfinite,
        **(_decisions(sums, layout, advantages) if any_epoch else {}),
        **(_run_numbers(sums, rollout.steps) if any_epoch else {}),
    )


def epoch_means(names: Sequence[str], sums: FloatArray, counts: FloatArray) -> dict[str, tuple[float, ...]]:
    """For each head its mean in each epoch that counted anything; sums and counts (epochs, H)."""
    return {
        name: tuple(total / count for total, count in zip(totals, counted, strict=True) if count > 0)
        for name, totals, counted in zip(names, sums.T.tolist(), counts.T.tolist(), strict=True)
    }


def _means(names: Sequence[str], sums: FloatArray, counts: FloatArray) -> dict[str, float]:
    """The mean of each head that counted anything; sums and counts (H,)."""
    by_head = zip(names, sums.tolist(), counts.tolist(), strict=True)
    return {name: total / count for name, total, count in by_head if count > 0}


def _decisions(sums: UpdateSums[FloatArray], layout: HeadLayout, advantages: AdvantageSums) -> dict[str, Any]:
    """What the heads did at the choice steps of the last epoch, and whether it paid."""
    parts = (sums.action_probability, sums.preference_weights, *advantages)
    per_action = [part.tolist() for part in parts]
    per_head = (sums.decision_entropy, sums.log_normalizer, sums.choice_entropy_steps[-1])
    heads = zip(layout.names, layout.slices, *(part.tolist() for part in per_head), strict=True)
    shares, information, margins = {}, {}, {}
    for name, own, entropy, log_normalizer, steps in heads:
        if not steps:
            continue
        probability, weights, *sampled = (part[own] for part in per_action)
        shares[name] = tuple(total / steps for total in probability)
        information[name] = state_information(probability, weights, entropy, log_normalizer, steps)
        margins[name] = margin(probability.index(max(probability)), *sampled)
    return {
        "head_action_shares": shares,
        "head_state_information": information,
        "head_advantage_margin": margins,
    }


def _nonfinite(names: Sequence[str], sums: UpdateSums[FloatArray]) -> dict[str, NonfiniteCounts]:
    kinds = (getattr(sums, kind).tolist() for kind in NonfiniteCounts._fields)
    by_head = zip(names, zip(*kinds, strict=True), strict=True)
    return {name: NonfiniteCounts(*map(int, counts)) for name, counts in by_head if any(counts)}


def _run_numbers(sums: UpdateSums[FloatArray], steps: int) -> dict[str, Any]:
    """The numbers that belong to no head; ``steps`` of the rollout, on all ranks."""
    optimizer_steps = _total(sums.optimizer_steps)
    return {
        "kl_divergence": sums.kl_divergence.item() / steps,
        "clipped_share": _total(sums.clipped_steps) / (len(sums.clipped_steps) * steps),
        "gradient_norm": _total(sums.gradient_norm) / optimizer_steps,
        "policy_loss": _total(sums.policy_loss) / optimizer_steps,
        "value_loss": _total(sums.value_loss) / optimizer_steps,
        "explained_variance": sums.explained_variance.item(),
    }


def _total(by_epoch: FloatArray) -> float:
    return math.fsum(by_epoch.tolist())
