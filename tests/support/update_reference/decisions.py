"""What a head did at its choice steps: how often each action, how much the state explains of it, whether it paid."""

import math

import numpy as np

from tests.support.update_reference.heads import entropy


def decision_numbers(log_probs, actions, advantages):
    """Of one head, from its log-probabilities (S, n) at the choice steps of the last epoch, and from what it sampled
    at those of the rollout, (S,) each."""
    if not len(log_probs):
        return {"action_shares": None, **_NO_INFORMATION, **_NO_MARGIN}
    shares = np.exp(log_probs).mean(0)
    enough = len(log_probs) >= 4 * log_probs.shape[1]
    information = {"state_information": _information(log_probs)} if enough else _NO_INFORMATION
    return {"action_shares": tuple(shares), **information, **_margin(actions == shares.argmax(), advantages)}


_NO_INFORMATION = {"state_information": None}
_NO_MARGIN = {"advantage_margin": None, "advantage_margin_t": None}


def _information(log_probs):
    """Mean divergence from the best preference, ten steps of Hunter (2004) from the mean policy."""
    valid, probabilities = np.isfinite(log_probs), np.exp(log_probs)
    weights = probabilities.sum(0) / np.maximum(valid.sum(0), 1)
    for _ in range(10):
        total = np.where(valid, weights, 0.0).sum(1, keepdims=True)
        weights = probabilities.sum(0) / np.maximum((valid / total).sum(0), 1e-300)
    restricted = np.where(valid, weights, 0.0)
    restricted = restricted / restricted.sum(1, keepdims=True)
    logs = np.log(restricted, where=restricted > 0, out=np.zeros_like(restricted))
    return (-(probabilities * logs).sum(1) - entropy(log_probs)).mean()


def _margin(leading, advantages):
    """Welch's t-test of the advantages of the leading action and of the others."""
    kinds = advantages[leading], advantages[~leading]
    if min(map(len, kinds)) < 2:
        return _NO_MARGIN
    one, other = kinds
    spread = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    difference = one.mean() - other.mean()
    return {"advantage_margin": difference, "advantage_margin_t": difference / spread}
