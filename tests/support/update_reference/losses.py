"""One minibatch: the losses of PPO (Schulman et al. 2017), their gradient, and what is measured of them."""

from typing import NamedTuple

import numpy as np

from tests.support.update_reference.heads import HeadMasks, d_entropy, d_log_prob, entropy, log_softmax
from tests.support.update_reference.network import backward, forward


class Batch(NamedTuple):
    """T steps of B environments, and what the policy that acted said of them."""

    observations: np.ndarray  # (T, B, D)
    starts: np.ndarray  # (T, B)
    state: tuple[np.ndarray, np.ndarray]  # (B, hidden) each
    actions: np.ndarray  # (T, B, H)
    masks: list[HeadMasks]  # H
    log_probs: np.ndarray  # (T, B, H), when they were taken
    advantages: np.ndarray  # (T, B), normalized
    returns: np.ndarray  # (T, B)
    shares: np.ndarray  # (H,), of choice steps in the whole rollout


class Loss(NamedTuple):
    """What one minibatch gave."""

    total: float
    policy: float
    value: float
    gradients: dict[str, np.ndarray]
    ratios: np.ndarray  # (T, B, H), 1 where a head had no choice
    entropies: np.ndarray  # (T, B, H), nats under the step mask
    relative: np.ndarray  # (T, B, H), H / ln v under the decision mask; NaN where there was no choice
    divergences: np.ndarray  # (T, B), ratio - 1 - log ratio of the joint action
    decisions: list[np.ndarray]  # of each head the log-probabilities at its choice steps, (S, n)


def minibatch_loss(parameters, batch, settings, multipliers, *, poisoned=False):
    """``poisoned``: the values are not numbers, as a test has it."""
    trace = forward(
        parameters, [m.decision.shape[-1] for m in batch.masks], batch.observations, batch.starts, batch.state
    )
    values = trace.values * np.nan if poisoned else trace.values
    steps = batch.returns.size
    heads = [
        _head(trace.logits[h], batch, h, settings.clip, settings.entropy_coefficient * multipliers[h])
        for h in range(len(batch.masks))
    ]
    value = 0.5 * ((values - batch.returns) ** 2).sum() / steps
    weight = settings.value_coefficient / parameters["value.scale"] ** 2
    policy = sum(head.policy for head in heads)
    total = policy - sum(head.bonus for head in heads) + weight * value
    d_values = weight * (values - batch.returns) / steps
    log_ratio = np.stack([np.log(head.ratio) for head in heads], -1).sum(-1)
    return Loss(
        total,
        policy,
        value,
        backward(parameters, trace, [head.d_logits for head in heads], d_values),
        np.stack([head.ratio for head in heads], -1),
        np.stack([head.entropy for head in heads], -1),
        np.stack([head.relative for head in heads], -1),
        np.exp(log_ratio) - 1 - log_ratio,
        [head.decisions for head in heads],
    )


class _Head(NamedTuple):
    policy: float
    bonus: float
    d_logits: np.ndarray
    ratio: np.ndarray
    entropy: np.ndarray
    relative: np.ndarray
    decisions: np.ndarray


def _head(logits, batch, head, clip, coefficient):
    """One head: sums over its choice steps, divided by how many of a minibatch are expected, 1 at least."""
    masks, actions, advantages = batch.masks[head], batch.actions[..., head], batch.advantages
    log_probs = log_softmax(logits, masks.decision)
    taken = np.take_along_axis(log_probs, actions[..., None], -1)[..., 0]
    ratio = np.where(masks.choice, np.exp(taken - batch.log_probs[..., head]), 1.0)
    expected = max(batch.shares[head] * advantages.size, 1.0)
    nats = entropy(log_probs)
    surrogate, d_surrogate = _clipped(ratio, advantages, clip)
    d_logits = -(d_surrogate * ratio)[..., None] * d_log_prob(log_probs, actions)
    d_logits = d_logits - coefficient * d_entropy(log_probs)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(masks.choice, nats / np.log(masks.decision.sum(-1)), np.nan)
    return _Head(
        policy=-surrogate[masks.choice].sum() / expected,
        bonus=coefficient * nats[masks.choice].sum() / expected,
        d_logits=np.where(masks.choice[..., None], d_logits, 0.0) / expected,
        ratio=ratio,
        entropy=entropy(log_softmax(logits, masks.step)),
        relative=relative,
        decisions=log_probs[masks.choice],
    )


def _clipped(ratio, advantages, clip):
    """The smaller of the surrogate and the clipped one, and its derivative by the ratio."""
    plain = ratio * advantages
    bounded = np.clip(ratio, 1 - clip, 1 + clip) * advantages
    return np.minimum(plain, bounded), np.where(plain <= bounded, advantages, 0.0)
