"""Fragments of a rollout, packed: each step once, the longest fragment first, each step after the one before it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_training.policy.fragments import Fragments

CPU = torch.device("cpu")


def some_starts(seed):
    generator = np.random.default_rng(seed)
    return generator.random(generator.integers(1, 15, size=2)) < generator.choice([0.0, 0.3, 0.9])


seeds = given(st.integers(0, 2**32 - 1))
often = settings(max_examples=60, deadline=None)


@seeds
@often
def test_every_step_is_packed_once_and_comes_back(seed):
    starts = some_starts(seed)
    fragments = Fragments.of(starts, CPU)
    steps = torch.arange(starts.size).reshape(starts.shape)
    packed = fragments.packed(steps)
    assert sorted(packed.tolist()) == list(range(starts.size))
    assert torch.equal(packed[fragments.back].reshape(starts.shape), steps)
    assert sum(fragments.alive) == starts.size
    assert list(fragments.alive) == sorted(fragments.alive, reverse=True)


@seeds
@often
def test_each_step_follows_the_one_before_it_or_the_initial_state_of_its_fragment(seed):
    """Walked through step by step, from the packed order alone."""
    starts = some_starts(seed)
    environments = starts.shape[1]
    fragments = Fragments.of(starts, CPU)
    initial = [(-1, int(owner)) for owner in fragments.owner]
    steps = [divmod(int(place), environments) for place in fragments.order]
    for (time, environment), before in zip(steps, fragments.previous.tolist(), strict=True):
        found = (initial + steps)[before]
        if time == 0 or starts[time, environment]:
            assert found == (-1, environment)
            assert bool(fragments.carried[before]) == (time == 0 and not starts[time, environment])
        else:
            assert found == (time - 1, environment)


def test_a_state_is_carried_into_the_episodes_that_continue():
    starts = np.array([[True, False], [False, True]])
    state = torch.tensor([[1.0], [2.0]])
    assert sorted(Fragments.of(starts, CPU).initial(state).flatten().tolist()) == [0.0, 0.0, 2.0]


@pytest.mark.parametrize(("starts", "alive"), [([0, 0, 0], (1, 1, 1)), ([1, 1, 1], (3,)), ([1, 0, 1], (2, 1))])
def test_a_pass_takes_as_many_steps_as_the_longest_fragment(starts, alive):
    assert Fragments.of(np.array(starts, bool)[:, None], CPU).alive == alive
