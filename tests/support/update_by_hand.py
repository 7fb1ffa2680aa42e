"""What one update of a loop should measure of its heads, by the definitions, in NumPy and float64."""

from typing import NamedTuple

import numpy as np

from tests.support.update_reference.decisions import decision_numbers
from tests.support.update_reference.heads import entropy, log_softmax


class Evaluated(NamedTuple):
    """One minibatch as a second forward pass saw it, before the optimiser step."""

    logits: list[np.ndarray]  # H times (S, n)
    masks: list[np.ndarray]  # H times (S, n) bool
    actions: np.ndarray  # (S, H)
    old_log_probs: np.ndarray  # (S, H), or (S, 1) of all heads together
    advantages: np.ndarray  # (S,)


def joined(minibatches):
    """The minibatches of an epoch as one."""
    heads = range(len(minibatches[0].logits))
    return Evaluated(
        [np.concatenate([one.logits[h] for one in minibatches]).astype(np.float64) for h in heads],
        [np.concatenate([one.masks[h] for one in minibatches]) for h in heads],
        *(np.concatenate([getattr(one, field) for one in minibatches]) for field in Evaluated._fields[2:]),
    )


def head_numbers(epochs, head, *, masked):
    """The numbers of one head from the epochs of an update. ``masked``: the policy is one that has masks."""
    entropies, relative, ratios = [], [], []
    for epoch in epochs:
        log_probs, choice = _log_probs(epoch, head)
        entropies.append(entropy(log_probs).mean())
        if choice.any():
            valid = epoch.masks[head][choice].sum(1)
            relative.append((entropy(log_probs[choice]) / np.log(valid)).mean())
            ratios.append(_ratio(epoch, head)[choice].max())
    last = epochs[-1]
    log_probs, choice = _log_probs(last, head)
    advantages = (last.advantages - last.advantages.mean()) / last.advantages.std(ddof=1)
    share = choice.mean() if masked else None
    return {
        "entropy": np.mean(entropies),
        "choice_entropy": np.mean(relative) if masked and relative else None,
        "choice_share": share,
        "open_share": share,
        "importance_ratio_max": max(ratios) if ratios else None,
        **decision_numbers(log_probs[choice], last.actions[choice, head], advantages[choice]),
    }


def joint_log_ratios(epoch):
    """(S,) of all heads together."""
    heads = range(len(epoch.logits))
    new = sum(_sampled(_log_probs(epoch, head)[0], epoch.actions[:, head]) for head in heads)
    return new - epoch.old_log_probs.astype(np.float64).sum(1)


def divergence(epochs):
    """Mean of ratio - 1 - log ratio over the steps of all epochs."""
    log_ratio = np.concatenate([joint_log_ratios(epoch) for epoch in epochs])
    return (np.exp(log_ratio) - 1 - log_ratio).mean()


def clipped_share(epochs, clip):
    """Share of the steps whose ratio is out of range."""
    ratio = np.exp(np.concatenate([joint_log_ratios(epoch) for epoch in epochs]))
    return ((ratio < 1 - clip) | (ratio > 1 + clip)).mean()


def _log_probs(epoch, head):
    mask = epoch.masks[head]
    return log_softmax(epoch.logits[head], mask), mask.sum(1) >= 2


def _sampled(log_probs, actions):
    return log_probs[np.arange(len(actions)), actions]


def _ratio(epoch, head):
    old = epoch.old_log_probs.astype(np.float64)
    if old.shape[1] == 1 < len(epoch.logits):
        return np.exp(joint_log_ratios(epoch))
    return np.exp(_sampled(_log_probs(epoch, head)[0], epoch.actions[:, head]) - old[:, head])
