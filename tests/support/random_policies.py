"""Random policies under random masks, and what is known of their state information without the code under test."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy

from rl_exporter.decisions import state_information
from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.preference import ChoiceSteps, fit_preferences
from rl_training.ranks import SINGLE_PROCESS
from tests.support.ranks import at_once, thread_ranks

CPU = torch.device("cpu")


class Policy(NamedTuple):
    """What each head does at S steps."""

    sizes: tuple
    logits: np.ndarray  # (S, Σn)
    masks: np.ndarray  # (S, Σn)
    choosing: np.ndarray  # (S, H), the head decided something

    def heads(self):
        """Probabilities and masks of each head at its choice steps, in float64."""
        bounds = np.cumsum(self.sizes)[:-1]
        parts = (np.split(part, bounds, axis=1) for part in (self.logits, self.masks))
        for logits, masks, chosen in zip(*parts, self.choosing.T, strict=True):
            kept = np.where(masks, logits.astype(np.float64), -np.inf)[chosen]
            yield softmax(kept, axis=1), masks[chosen]

    def at(self, steps):
        return Policy(self.sizes, self.logits[steps], self.masks[steps], self.choosing[steps])


def layout_of(policy):
    return HeadLayout([f"h{i}" for i in range(len(policy.sizes))], policy.sizes)


def choice_steps_of(policy):
    layout = layout_of(policy)
    valid = torch.tensor(policy.masks & policy.choosing[:, layout.segment.numpy()])
    probabilities, entropies = [], []
    for head in layout.slices:
        kept = torch.tensor(policy.logits)[:, head].masked_fill(~valid[:, head], -1e30)
        p = torch.softmax(kept, 1) * valid[:, head]
        probabilities.append(p)
        entropies.append(-torch.xlogy(p, p).sum(1))
    return ChoiceSteps(
        torch.cat(probabilities, 1).T.contiguous(), valid.float().T.contiguous(), torch.stack(entropies)
    )


def fitted(policy, ranks=SINGLE_PROCESS):
    return fit_preferences(partial(choice_steps_of, policy), layout_of(policy), ranks, Attempt(), CPU)


def nats_of(policy, parts=None):
    """State information of each head in nats."""
    return [found.nats for found in information_of(policy, parts)]


def information_of(policy, parts=None):
    """State information of each head, without the lower limit on its steps; by ``parts``, one rank each."""
    found = [fitted(policy)]
    if parts:
        ranks = thread_ranks(len(parts))
        found = at_once([partial(fitted, policy.at(p), rank) for p, rank in zip(parts, ranks, strict=True)])
    layout = layout_of(policy)
    whole = [
        sum(getattr(part, name) for part in found) for name in ("probability", "entropy", "log_normalizer")
    ]
    probability, entropy, log_normalizer = (part.tolist() for part in whole)
    weights, steps = found[0].weights.tolist(), policy.choosing.sum(0).tolist()
    return [
        state_information(probability[own], weights[own], entropy[h], log_normalizer[h], steps[h], least=1)
        for h, own in enumerate(layout.slices)
    ]


@st.composite
def policies(draw, masked=True, scales=(0.0, 0.5, 2.0, 10.0, 300.0), least=1, most=60):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = tuple(draw(st.lists(st.integers(2, 13), min_size=1, max_size=4)))
    count, total = draw(st.integers(least, most)), sum(sizes)
    logits = draw(st.sampled_from(scales)) * generator.standard_normal((count, total))
    masks = np.ones((count, total), dtype=bool)
    choosing = np.ones((count, len(sizes)), dtype=bool)
    if masked:
        masks = generator.random((count, total)) < 0.6
        for start, size in zip(np.cumsum((0, *sizes[:-1])), sizes, strict=True):
            for row in masks:
                row[start + generator.choice(size, 2, replace=False)] = True
        choosing = generator.random(choosing.shape) < 0.8
    return Policy(sizes, logits.astype(np.float32), masks, choosing)


def by_scipy(probabilities):
    """Mutual information of step and action: H(mean π) - mean H(π)."""
    return scipy_entropy(probabilities.mean(0)) - scipy_entropy(probabilities, axis=1).mean()


def by_solver(probabilities, masks):
    """The minimum over softmax-parametrized preferences, which is a convex problem."""
    entropy = scipy_entropy(probabilities, axis=1).mean()

    def cross_entropy(theta):
        log_w = log_softmax(np.where(masks, theta, -np.inf), axis=1)
        terms = np.where(masks, probabilities * np.where(masks, log_w, 0.0), 0.0)
        gradient = (np.exp(log_w) - probabilities).mean(0)
        return -terms.sum(1).mean(), gradient

    best = minimize(cross_entropy, np.zeros(masks.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
    return best.fun - entropy
