"""State information against references that share no code with it, and its properties over random policies."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy

from rl_exporter.decisions import STEPS_PER_ACTION, Information, state_information
from rl_exporter.integrations.preference import (
    MINORIZE_STEPS,
    MINORIZE_STEPS_ALONE,
    NEWTON_CHOICES,
    NEWTON_STEPS,
)
from rl_training.policy.distributions import HeadLayout
from rl_training.ranks import SINGLE_PROCESS, RankLostError
from rl_training.telemetry.preference import (
    Attempt,
    ChoiceSteps,
    fit_preferences,
)
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


@given(policies(masked=False))
@settings(max_examples=60, deadline=None)
def test_without_masks_it_is_the_mutual_information_of_state_and_action(policy):
    for found, (probabilities, _) in zip(nats_of(policy), policy.heads(), strict=True):
        assert found == pytest.approx(by_scipy(probabilities), abs=1e-6)


@pytest.mark.parametrize("together", [0, 1000])
@given(policy=policies(scales=(0.0, 0.5, 2.0), least=40, most=200))
@settings(max_examples=20, deadline=None)
def test_under_masks_a_convex_solver_finds_the_same(together, policy):
    """Whether one system of equations serves all heads or each has its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rl_training.telemetry.newton.TOGETHER", together)
        check_against_solver(policy)


def check_against_solver(policy):
    for found, (probabilities, masks) in zip(nats_of(policy), policy.heads(), strict=True):
        assert found == pytest.approx(by_solver(probabilities, masks), abs=1e-3)


@given(policies())
@settings(max_examples=60, deadline=None)
def test_it_is_never_below_the_least_that_a_preference_leaves(policy):
    """However few the steps and however extreme the policy: what the fit has not found yet makes it larger."""
    for found, (probabilities, masks) in zip(nats_of(policy), policy.heads(), strict=True):
        assert found is None or found >= by_solver(probabilities, masks) - 1e-5


@given(policies(), st.sampled_from((1.0, 5.0, 30.0)), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_a_head_with_one_preference_has_none_under_any_masks(policy, scale, seed):
    """However strong the preference: a head that collapsed into an order of its actions is blind under any masks."""
    generator = np.random.default_rng(seed)
    preference = scale * generator.standard_normal(policy.logits.shape[1]).astype(np.float32)
    same = policy._replace(logits=np.broadcast_to(preference, policy.logits.shape).copy())
    assert all(found is None or found == pytest.approx(0.0, abs=0.01) for found in nats_of(same))


@given(st.integers(2, 13), st.integers(1, 9))
@settings(deadline=None)
def test_equally_likely_deterministic_behaviours_have_the_logarithm_of_their_number(behaviours, repeats):
    logits = np.repeat(300.0 * np.eye(behaviours, 13, dtype=np.float32), repeats, axis=0)
    everything = np.ones_like(logits, dtype=bool)
    policy = Policy((13,), logits, everything, everything[:, :1])
    assert nats_of(policy) == [pytest.approx(math.log(behaviours), abs=1e-6)]


@given(policies(masked=False))
@settings(max_examples=60, deadline=None)
def test_it_is_never_above_the_entropy_of_the_mean_policy(policy):
    for found, (probabilities, _) in zip(nats_of(policy), policy.heads(), strict=True):
        assert 0.0 <= found <= scipy_entropy(probabilities.mean(0)) + 1e-6


@given(policies(masked=False))
@settings(max_examples=60, deadline=None)
def test_its_ratio_is_the_share_of_the_entropy_of_the_mean_policy(policy):
    """Theil's U, by scipy; absent where nothing is uncertain."""
    for found, (probabilities, _) in zip(information_of(policy), policy.heads(), strict=True):
        uncertain = scipy_entropy(probabilities.mean(0))
        if found.ratio is None:
            assert uncertain < 1.1e-4
        else:
            assert found.ratio == pytest.approx(by_scipy(probabilities) / uncertain, abs=0.02)
            assert 0.0 <= found.ratio <= 1.0


@given(policies(scales=(0.5, 2.0), least=40, most=200))
@settings(max_examples=40, deadline=None)
def test_under_masks_its_ratio_is_the_share_of_what_the_best_preference_leaves_uncertain(policy):
    for found, (probabilities, masks) in zip(information_of(policy), policy.heads(), strict=True):
        nats = by_solver(probabilities, masks)
        assert found.ratio == pytest.approx(
            nats / (nats + scipy_entropy(probabilities, axis=1).mean()), abs=2e-3
        )


@given(policies(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_steps_does_not_matter(policy, random):
    order = list(range(len(policy.logits)))
    random.shuffle(order)
    for found, expected in zip(nats_of(policy.at(order)), nats_of(policy), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


@given(policies(), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_splitting_over_ranks_does_not_matter(policy, size):
    """A rank may have no choice step of a head, or no step at all."""
    parts = np.array_split(np.arange(len(policy.logits)), size)
    for found, expected in zip(nats_of(policy, parts), nats_of(policy), strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_too_few_choice_steps_cannot_show_that_a_head_is_blind():
    """The fitted preference would explain them, and a head that looks at the state would read as blind."""
    uniform, enough = [0.25] * 4, 4 * STEPS_PER_ACTION

    def found(steps, seeing):
        """Of a head that is uniform, or that takes each of its actions in a quarter of the steps."""
        entropy = 0.0 if seeing else steps * math.log(4)
        return state_information([steps / 4] * 4, uniform, entropy, 0.0, steps)

    assert found(enough - 1, seeing=False) == Information(None, None)
    assert found(enough, seeing=False) == Information(0.0, 0.0)
    assert found(2, seeing=True) == Information(pytest.approx(math.log(4)), 1.0), "a head that looks does look"
    assert found(0, seeing=True) == Information(None, None)
    generator = np.random.default_rng(0)
    for choices in (2, 5, 13):
        actions = generator.integers(choices, size=(2000, STEPS_PER_ACTION * choices))
        entropies = [scipy_entropy(np.bincount(row, minlength=choices)) for row in actions]
        assert math.log(choices) - np.mean(entropies) < 0.14


@given(policies(masked=False, least=20))
@settings(max_examples=60, deadline=None)
def test_fewer_steps_never_make_a_blind_head_see(policy):
    """On average over the steps that could have been visited, state information only falls with their number."""
    parts = [policy.at(np.arange(first, len(policy.logits), 4)) for first in range(4)]
    of_parts = np.array([[found or 0.0 for found in nats_of(part)] for part in parts])
    weights = [len(part.logits) for part in parts]
    for part, whole in zip(np.average(of_parts, axis=0, weights=weights), nats_of(policy), strict=True):
        assert part <= whole + 1e-5


class CountingRanks:
    """The only rank, which counts its exchanges."""

    rank, size, exchanges = 0, 1, 0

    def all_reduce(self, tensors):
        self.exchanges += 1


@pytest.mark.parametrize("fails_at", ["never", "begin", "denominators", "newton_sums", "log_normalizer"])
def test_every_path_exchanges_equally_often(monkeypatch, fails_at):
    """The other ranks wait in each of the exchanges."""

    def broken(self, *arguments):
        raise RuntimeError("no memory for telemetry")

    policy = Policy((2,), np.zeros((9, 2), np.float32), np.ones((9, 2), bool), np.ones((9, 1), bool))
    if fails_at != "never":
        monkeypatch.setattr(f"rl_training.telemetry.preference._Fit.{fails_at}", broken)
    attempt, ranks = Attempt(), CountingRanks()
    found = fit_preferences(partial(choice_steps_of, policy), layout_of(policy), ranks, attempt, CPU)
    assert ranks.exchanges == 1 + MINORIZE_STEPS + NEWTON_STEPS
    assert (found is None) == (attempt.failure is not None) == (fails_at != "never")


def test_a_policy_with_a_wide_head_does_without_newtons_steps():
    """Under random masks, ten minorize-maximize steps find a mild policy's preference as well."""
    generator, sizes = np.random.default_rng(4), (NEWTON_CHOICES + 1, 3)
    masks = generator.random((400, sum(sizes))) < 0.9
    masks[:, -3:] = True
    logits = generator.standard_normal(masks.shape).astype(np.float32)
    policy = Policy(sizes, logits, masks, np.ones((400, 2), bool))
    ranks = CountingRanks()
    fitted(policy, ranks)
    assert ranks.exchanges == 1 + MINORIZE_STEPS_ALONE
    for found, (probabilities, valid) in zip(nats_of(policy), policy.heads(), strict=True):
        assert found == pytest.approx(by_solver(probabilities, valid), abs=1e-3)


def test_a_rank_that_fails_adds_nothing():
    policy = Policy((3,), np.zeros((9, 3), np.float32), np.ones((9, 3), bool), np.ones((9, 1), bool))

    def fit(rank):
        steps = partial(choice_steps_of, policy) if rank.rank == 0 else (lambda: 1 / 0)
        return fit_preferences(steps, layout_of(policy), rank, Attempt(), CPU)

    zero, one = at_once([partial(fit, rank) for rank in thread_ranks(2)])
    assert one is None
    assert torch.equal(zero.weights, fitted(policy).weights)


def test_a_lost_rank_ends_the_run():
    class Lost:
        def all_reduce(self, tensors):
            raise RankLostError("gone")

    policy = Policy((2,), np.zeros((9, 2), np.float32), np.ones((9, 2), bool), np.ones((9, 1), bool))
    with pytest.raises(RankLostError):
        fitted(policy, Lost())
