"""State information against references that share no code with it, and its properties over random policies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from rl_exporter.decisions import STEPS_PER_ACTION, Information, state_information
from tests.support.random_policies import (
    Policy,
    by_scipy,
    by_solver,
    information_of,
    nats_of,
    policies,
)


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
        patch.setattr("rl_exporter.integrations.meter.equations.TOGETHER", together)
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
