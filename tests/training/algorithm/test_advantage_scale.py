"""Advantages that have become small stay small against those of recent rollouts."""

import math
from dataclasses import replace

import pytest
import torch

from rl_training.algorithm.advantages import AdvantageScale
from tests.support.agents import setup


def scales(*deviations):
    scale = AdvantageScale(torch.device("cpu"))
    return [scale.of(torch.tensor(each * each, dtype=torch.float64)).item() for each in deviations]


def test_the_first_rollout_has_its_own_deviation():
    assert scales(4.0) == [4.0]


def test_what_shrinks_is_divided_by_the_mean_of_recent_deviations():
    assert scales(4.0, 1.0, 1.0) == pytest.approx([4.0, 3.91, 3.8227])


def test_what_grows_is_divided_by_its_own_deviation():
    assert scales(4.0, 8.0, 9.0) == [4.0, 8.0, 9.0]


def test_advantages_that_stay_small_get_their_size_back():
    assert scales(4.0, *[0.5] * 300)[-1] == pytest.approx(0.5, rel=1e-3)


def test_rollouts_without_variance_leave_the_scale_to_the_first_that_has_some():
    assert scales(0.0, 0.0, 3.0) == [0.0, 0.0, 3.0]


def test_one_huge_deviation_counts_as_a_hundred_times_the_mean():
    recent = 0.97 + 0.03 * 100
    assert scales(1.0, 1e6, 1.0) == pytest.approx([1.0, 1e6, 0.97 * recent + 0.03])
    assert scales(1.0, 50.0, 1.0)[-1] == pytest.approx(0.97 * (0.97 + 0.03 * 50) + 0.03), "that is not huge"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_variance_that_is_not_finite_is_not_kept(broken):
    assert not math.isfinite(scales(4.0, broken)[-1])
    assert scales(4.0, broken, 1.0)[-1] == scales(4.0, 1.0)[-1]


@pytest.mark.parametrize(("critic", "deviation"), [("own", 0.1 / (0.97 + 0.03 * 0.1)), ("shared", 1.0)])
def test_an_update_learns_from_advantages_in_that_scale(critic, deviation):
    """Rewards and values a tenth of those before: the second rollout has advantages a tenth as large."""
    _, agent, collector = setup(critic=critic)
    rollout = collector.collect(16)
    assert agent._targets(rollout).advantages.std().item() == pytest.approx(1, rel=1e-5)
    smaller = {name: 0.1 * getattr(rollout, name) for name in ("rewards", "values", "next_values")}
    assert agent._targets(replace(rollout, **smaller)).advantages.std().item() == pytest.approx(
        deviation, rel=1e-4
    )
