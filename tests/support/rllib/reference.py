"""The numbers of an update once more, with NumPy in float64, from what the losses of its learners saw.

It shares no code with the meter, and finds the epochs in another way: the n-th visit of a row is of the n-th
epoch, because every observation occurs once.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

DECAY, CLIP, MASKED = 0.95, 0.3, 1e4


class Flat(NamedTuple):
    """The valid steps of whole epochs, one a row."""

    epoch: np.ndarray
    last: np.ndarray
    """In the last whole epoch of its learner."""
    logits: np.ndarray
    acting: np.ndarray
    actions: np.ndarray
    advantages: np.ndarray
    log_prob: np.ndarray


def whole_steps(minibatches):
    """The valid steps of whole epochs, how many epochs there are, and the optimiser steps that lie in them."""
    visits, epochs_of = Counter(), []
    for minibatch in minibatches:
        own = []
        for row, valid in zip(minibatch["rows"], minibatch["valid"], strict=True):
            key = (row.tobytes(), valid.tobytes())
            own.append(visits[key])
            visits[key] += 1
        # One for each step, also where a row is a sequence.
        epochs = np.array(own).reshape(-1, *[1] * (valid.ndim))
        epochs_of.append(np.broadcast_to(epochs, minibatch["valid"].shape))
    whole = max(1, min(visits.values()))
    parts = []
    for minibatch, epoch in zip(minibatches, epochs_of, strict=True):
        used = minibatch["valid"] & (epoch < whole)
        columns = [minibatch[name] for name in ("logits", "acting", "actions", "advantages", "log_prob")]
        parts.append([column[used] for column in (epoch, epoch == whole - 1, *columns)])
    inside = [index for index, epoch in enumerate(epochs_of) if (epoch < whole).all()]
    return Flat(*map(np.concatenate, zip(*parts, strict=True))), whole, inside


def joined(flats):
    return Flat(*map(np.concatenate, zip(*flats, strict=True)))


def log_softmax(logits):
    centered = logits - logits.max(-1, keepdims=True)
    return centered - np.log(np.exp(centered).sum(-1, keepdims=True))


class HeadReference:
    """What one head should show; ``past``: its decayed advantage sums of the updates before."""

    def __init__(self, flat, whole, head, columns, past=None):
        logits = flat.logits[:, columns].astype(np.float64)
        self.valid = logits >= logits.max(1, keepdims=True) - MASKED
        log_p = log_softmax(np.where(self.valid, logits, -np.inf))
        self.p = np.exp(log_p)
        self.entropies = -np.where(self.valid, self.p * np.where(self.valid, log_p, 0.0), 0.0).sum(1)
        self.flat, self.whole, self.last = flat, whole, flat.last
        self.choices = self.valid.sum(1)
        self.choosing = self.choices > 1
        acting = log_softmax(np.where(self.valid, flat.acting[:, columns].astype(np.float64), -np.inf))
        chosen = flat.actions[:, [head]].astype(int)
        self.log_prob = np.take_along_axis(log_p, chosen, 1)[:, 0]
        self.ratio = np.exp(self.log_prob - np.take_along_axis(acting, chosen, 1)[:, 0])
        self.sums = self.advantage_sums(chosen[:, 0], past)

    def over_epochs(self, values, used):
        epochs = [values[used & (self.flat.epoch == epoch)] for epoch in range(self.whole)]
        return np.mean([part.mean() for part in epochs])

    @property
    def entropy(self):
        return self.over_epochs(self.entropies, np.ones_like(self.choosing))

    @property
    def choice_entropy(self):
        return self.over_epochs(self.entropies / np.log(np.maximum(self.choices, 2)), self.choosing)

    @property
    def choice_share(self):
        return self.choosing[self.last].mean()

    @property
    def action_shares(self):
        return self.p[self.last & self.choosing].mean(0)

    @property
    def importance_ratio_max(self):
        return self.ratio[self.choosing & (self.flat.epoch < self.whole)].max()

    @property
    def information(self):
        """Nats, and all that is uncertain without the state, by the minorize-maximize steps of the definition until they stand still."""
        p, valid = (part[self.last & self.choosing] for part in (self.p, self.valid))
        weights = p.sum(0) / np.maximum(valid.sum(0), 1)
        moved = 1.0
        while moved > 1e-12:
            before, weights = (
                weights,
                p.sum(0) / np.maximum((valid / (valid @ weights)[:, None]).sum(0), 1e-300),
            )
            weights /= weights.sum()
            moved = np.abs(weights - before).max()
        cross = -(p * np.log(np.where(valid, weights / (valid @ weights)[:, None], 1.0))).sum(1).mean()
        nats = cross - self.entropies[self.last & self.choosing].mean()
        return nats, cross

    def advantage_sums(self, chosen, past):
        used = self.last & self.choosing
        onehot = np.eye(self.p.shape[1])[chosen[used]]
        advantages = self.flat.advantages[used].astype(np.float64)[:, None]
        sums = np.stack([part.sum(0) for part in (onehot, onehot * advantages, onehot * advantages**2)])
        return sums if past is None else sums + DECAY * past

    @property
    def margin(self):
        """Mean advantage of the leading action less that of the others, and Welch's t; None with a single step."""
        leading = self.action_shares.argmax()
        own, others = self.sums[:, leading], np.delete(self.sums, leading, 1).sum(1)
        if min(own[0], others[0]) < 2:
            return None, None
        (mean, error), (other, other_error) = map(self._mean_and_error, (own, others))
        return mean - other, (mean - other) / np.sqrt(error + other_error)

    @staticmethod
    def _mean_and_error(sums):
        steps, total, squares = sums
        return total / steps, (squares / steps - (total / steps) ** 2) / (steps - 1)


def joint_numbers(flat, whole, heads):
    """Clip share, and divergence over the last epoch, of the ratio of all heads together."""
    log_ratio = sum(head.log_prob for head in heads) - flat.log_prob
    moved, counted = np.expm1(log_ratio), flat.epoch < whole
    return (np.abs(moved[counted]) > CLIP).mean(), (moved - log_ratio)[flat.epoch == whole - 1].mean()
