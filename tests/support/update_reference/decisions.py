"""What a head did at its choice steps: how often each action, how much the state explains of it, whether it paid."""

import math

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from tests.support.update_reference.heads import entropy


def decision_numbers(log_probs, actions, advantages):
    """Of one head, from its log-probabilities (S, n) at the choice steps of the last epoch, and from what it sampled
    at those of the rollout, (S,) each."""
    if not len(log_probs):
        return {"action_shares": None, **_NO_INFORMATION, **_NO_MARGIN}
    shares = np.exp(log_probs).mean(0)
    enough = len(log_probs) >= 4 * log_probs.shape[1]
    information = _information(log_probs)
    blind = information["state_information"] < 0.02 or (information["state_information_ratio"] or 1.0) < 0.1
    if blind and not enough:
        information = _NO_INFORMATION
    return {"action_shares": tuple(shares), **information, **_margin(actions == shares.argmax(), advantages)}


_NO_INFORMATION = {"state_information": None, "state_information_ratio": None}
_NO_MARGIN = {"advantage_margin": None, "advantage_margin_t": None}


def _information(log_probs):
    """Mean divergence from the best preference, which scipy finds, and its share of what is uncertain without it."""
    valid, probabilities = np.isfinite(log_probs), np.exp(log_probs)

    def cross_entropy(logits):
        log_w = log_softmax(np.where(valid, logits, -np.inf), axis=1)
        kept = np.where(valid, log_w, 0.0)
        return -(probabilities * kept).sum(1).mean(), (np.exp(log_w) - probabilities).mean(0)

    start = np.log(np.maximum(probabilities.sum(0), 1e-12))
    uncertain = minimize(cross_entropy, start, jac=True, method="BFGS", options={"gtol": 1e-9}).fun
    nats = max(0.0, uncertain - entropy(log_probs).mean())
    return {
        "state_information": nats,
        "state_information_ratio": nats / uncertain if uncertain >= 1e-4 else None,
    }


def _margin(leading, advantages):
    """Welch's t-test of the advantages of the leading action and of the others."""
    kinds = advantages[leading], advantages[~leading]
    if min(map(len, kinds)) < 2:
        return _NO_MARGIN
    one, other = kinds
    spread = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    difference = one.mean() - other.mean()
    return {"advantage_margin": difference, "advantage_margin_t": difference / spread}
