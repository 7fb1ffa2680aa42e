"""The loss of PPO over one minibatch, for a policy with several heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import Columns
from rl_training.config import PPOConfig
from rl_training.policy.fragments import Fragments
from rl_training.policy.network import FactoredRecurrentActorCritic
from rl_training.policy.rollout import Rollout
from rl_training.telemetry.measurement import MinibatchTelemetry


class Losses(NamedTuple):
    """The loss of one minibatch, a scalar, and what telemetry keeps of its computation."""

    total: Tensor
    telemetry: MinibatchTelemetry
    columns: Columns
    """The distributions that it evaluated."""


class Targets(NamedTuple):
    """What the policy and the value head learn from a rollout."""

    advantages: Tensor
    """(T, N), normalized over the environments of all ranks."""
    returns: Tensor
    """(T, N)"""
    explained_variance: Tensor
    """Share of the variance of the returns that the values explain, a scalar; NaN when they do not vary."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """This rank's part of a minibatch: all T steps of B of its environments.

    The LSTM needs whole sequences, so a minibatch takes environments rather than single steps.
    """

    environments: Tensor
    """(B,) indices, on the device."""
    fragments: Fragments
    """Of their episodes."""
    masks: Tensor
    """(T, B, Σn) bool, see ``Rollout.evaluated_masks``."""
    advantages: Tensor
    """(T, B)"""
    returns: Tensor
    """(T, B)"""
    steps: int
    """Steps of the whole minibatch, on all ranks."""


class HeadWeights(NamedTuple):
    """What a head's part of the loss is multiplied by and divided by, (H,) each."""

    coefficients: Tensor
    """Of the entropy bonus."""
    choice_shares: Tensor
    """Choice steps of the rollout, as a share of its steps."""


def ppo_losses(
    network: FactoredRecurrentActorCritic,
    rollout: Rollout,
    batch: Minibatch,
    heads: HeadWeights,
    config: PPOConfig,
) -> Losses:
    """Clipped surrogate and entropy bonus of each head over its choice steps, summed, and the value loss.

    A head's sum is divided by its choice steps in an average minibatch of this size, rather than by those
    that happen to be in this one: a few choice steps must not weigh as much as many. The value loss counts in
    units of the value head, so that returns of any scale weigh the same against the policy.
    """
    index = batch.environments
    evaluation = network.evaluate_actions(
        rollout.observations.index_select(1, index),
        rollout.actions.index_select(1, index),
        batch.masks,
        batch.fragments,
        (rollout.state[0].index_select(0, index), rollout.state[1].index_select(0, index)),
    )
    choice = rollout.choice.index_select(1, index)
    # At least one step: a head with a choice in one step of thousands must not get a huge gradient.
    weights = choice / (heads.choice_shares * batch.steps).clamp_min(1.0)
    # A head that decided nothing keeps the ratio 1, so that it has no part in the step's ratio.
    log_ratio = (evaluation.log_probs - rollout.log_probs.index_select(1, index)).masked_fill(~choice, 0.0)
    ratio = log_ratio.exp()
    advantage = batch.advantages.unsqueeze(-1)
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    surrogate = torch.minimum(ratio * advantage, clipped * advantage)
    entropy = evaluation.distribution.entropy
    policy_loss = -(surrogate * weights).sum()
    bonus = (entropy * (heads.coefficients * weights)).sum()
    value_loss = 0.5 * (evaluation.values - batch.returns).square().sum() / batch.steps
    scaled = value_loss / network.value.scale.square().to(value_loss.dtype)
    total = policy_loss - bonus + config.value_coefficient * scaled
    with torch.no_grad():
        telemetry = MinibatchTelemetry(
            environments=index,
            logits=evaluation.logits.detach(),
            choice=choice,
            entropy=entropy.detach(),
            peak=evaluation.distribution.peak,
            ratio=ratio.detach(),
            # The probability of a step's action is the product over heads.
            kl_sum=divergences(log_ratio.sum(-1)).sum(),
            policy_loss=policy_loss.detach(),
            value_loss=value_loss.detach(),
        )
    return Losses(total, telemetry, evaluation.distribution.columns)


@torch.no_grad()
def divergence_from(rollout: Rollout, masks: Tensor, network: FactoredRecurrentActorCritic) -> Tensor:
    """Sum over the steps of a rollout of the KL divergence of the present policy from the one that acted."""
    log_probs = network.log_probs(rollout.observations, rollout.actions, masks, rollout.starts, rollout.state)
    log_ratio = (log_probs - rollout.log_probs).masked_fill(~rollout.choice, 0.0)
    return divergences(log_ratio.sum(-1)).sum()


def divergences(log_ratio: Tensor) -> Tensor:
    """Estimates ratio - 1 - log ratio of the KL divergence, one a step: without bias, and never negative.

    expm1, because exp() - 1 of a small number is mostly rounding.
    """
    return log_ratio.expm1() - log_ratio
