"""The value head follows returns of any scale, and no estimate changes when its units do."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_training.policy.value import PopArtValue

FEATURES = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def head(seed=0):
    torch.manual_seed(seed)
    return PopArtValue(8).double()


def moments(mean, variance):
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64)


@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e9)), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_estimates_stay_whatever_the_returns_become(rollouts):
    value = head()
    before = value(FEATURES)
    for rollout in rollouts:
        value.rescale(*moments(*rollout))
        after = value(FEATURES)
        assert torch.allclose(
            after, before, rtol=1e-6, atol=1e-6 * (1 + abs(rollout[0]) + math.sqrt(rollout[1]))
        )


def test_the_first_rollout_gives_its_own_units():
    value = head()
    value.rescale(*moments(300.0, 16.0))
    assert value.mean.item() == pytest.approx(300)
    assert value.scale.item() == pytest.approx(4)


def test_units_follow_returns_that_grow():
    value = head()
    for update in range(400):
        value.rescale(*moments(0.5 * min(update, 200), 100.0))
    assert value.mean.item() == pytest.approx(100, rel=0.01)
    assert value.scale.item() == pytest.approx(10, rel=0.05)


def after(*rollouts):
    value = head()
    for rollout in rollouts:
        value.rescale(*moments(*rollout))
    return value


def test_returns_of_another_magnitude_count_as_a_hundred_times_the_scale():
    usual = [(0.0, 1.0)] * 50
    assert after(*usual, (4e9, 1e24)).scale.item() < 30
    assert after(*usual, (4e9, 1e24)).mean.item() < 10
    assert after(*usual, (4e9, 1e24), *usual, *usual).scale.item() < 6
    assert after(*usual, (0.0, 90.0**2)).scale.item() == pytest.approx(
        math.sqrt(1 + 0.03 * 8099 / (1 - 0.97**51))
    )


def test_returns_that_begin_to_vary_count_whole():
    assert after((5.0, 0.0), (5.0, 1e6)).scale.item() == pytest.approx(1000 * math.sqrt(1 / 1.97), rel=1e-3)


def test_the_value_head_goes_back_to_its_former_units_and_estimates():
    value = after((3.0, 4.0))
    former, estimates = value.units(), value(FEATURES)
    value.rescale(*moments(1e28, 1e60))
    value.restore(former)
    assert torch.equal(value(FEATURES), estimates)
    assert value.scale.item() == pytest.approx(2)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["mean", "variance"])
def test_returns_that_are_not_finite_change_nothing(broken, which):
    fresh, used = head(), head()
    used.rescale(*moments(3.0, 4.0))
    for value in (fresh, used):
        before = {name: tensor.clone() for name, tensor in value.state_dict().items()}
        value.rescale(*moments(**{"mean": 1.0, "variance": 1.0} | {which: broken}))
        assert all(torch.equal(tensor, before[name]) for name, tensor in value.state_dict().items())


def test_returns_that_do_not_vary_leave_a_scale_to_divide_by():
    value = head()
    value.rescale(*moments(7.0, 0.0))
    assert value.scale.item() > 0
    assert torch.isfinite(value(FEATURES)).all()
