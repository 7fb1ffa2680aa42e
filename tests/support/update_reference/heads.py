"""What masks mean, step by step as the definitions say it, and the distribution of one masked head."""

from typing import NamedTuple

import numpy as np


class HeadMasks(NamedTuple):
    """One head at each of T steps of N environments."""

    decision: np.ndarray  # (T, N, n), what the operation that was taken allows
    step: np.ndarray  # (T, N, n), what any valid operation that consults the head would allow
    choice: np.ndarray  # (T, N), it was consulted and had two or more valid choices
    open: np.ndarray  # (T, N), some valid operation leaves it two or more


def head_masks(masks, operations, consulted, sizes):
    """Of each head, from the masks that the environment gave, (T, N, K, Σn), where row k holds if the operation
    is k. K = 1 says that nothing depends on the operation. ``consulted`` (K, H)."""
    segments = np.split(masks, np.cumsum(sizes)[:-1], axis=-1)
    operates = masks.shape[2] > 1
    found = []
    for head, segment in enumerate(segments):
        steps = [
            _at(segment[at], segments[0][at][0], operations[at], consulted[:, head], operates, head)
            for at in np.ndindex(operations.shape)
        ]
        fields = [np.array(field) for field in zip(*steps, strict=True)]
        found.append(HeadMasks(*(f.reshape(*operations.shape, *f.shape[1:]) for f in fields)))
    return found


def _at(rows, valid_operations, operation, consulted, operates, head):
    """Decision mask, step mask, choice, open, of one head at one step; ``rows`` (K, n)."""
    if not operates or head == 0:
        several = rows[0].sum() >= 2
        return rows[0], rows[0], several, several
    reaching = [k for k in range(len(rows)) if valid_operations[k] and consulted[k]]
    canonical = np.arange(rows.shape[1]) == 0
    step = np.any(rows[reaching], axis=0) if reaching else canonical
    decision = rows[operation] if consulted[operation] else canonical
    return decision, step, decision.sum() >= 2, any(rows[k].sum() >= 2 for k in reaching)


def log_softmax(logits, mask):
    """Log-probabilities over the last axis, minus infinity where the mask forbids."""
    scores = np.where(mask, logits, -np.inf)
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def entropy(log_probs):
    """In nats, over the last axis; 0 ln 0 = 0."""
    return -(np.exp(log_probs) * np.where(np.isfinite(log_probs), log_probs, 0.0)).sum(-1)


def d_log_prob(log_probs, actions):
    """Derivative of the log-probability of each action by the logits."""
    return np.eye(log_probs.shape[-1])[actions] - np.exp(log_probs)


def d_entropy(log_probs):
    """Derivative of the entropy by the logits."""
    finite = np.where(np.isfinite(log_probs), log_probs, 0.0)
    return -np.exp(log_probs) * (finite + entropy(log_probs)[..., None])
