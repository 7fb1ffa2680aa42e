"""The hyperbolic tangent from the sigmoid is that of torch, forward and backward."""

import pytest
import torch

from rl_training.policy.tanh import tanh


@pytest.mark.parametrize(("dtype", "resolution"), [(torch.float32, 2e-7), (torch.float64, 1e-15)])
def test_it_is_exact_to_the_resolution_of_its_result(dtype, resolution):
    x = torch.cat([torch.linspace(-30, 30, 10_001), torch.tensor([-1e30, -0.0, 1e30])]).to(dtype)
    torch.testing.assert_close(tanh(x), x.double().tanh().to(dtype), rtol=0, atol=resolution)


def test_its_gradient_is_that_of_torch():
    x = torch.linspace(-4, 4, 33, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tanh, (x,))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_gives_what_torch_gives(number):
    x = torch.tensor([number, 0.5])
    torch.testing.assert_close(tanh(x), torch.tanh(x), equal_nan=True)


def test_its_argument_stays_as_it_is():
    x = torch.tensor([0.5, -2.0])
    tanh(x)
    assert x.tolist() == [0.5, -2.0]


def test_half_precision_keeps_its_digits():
    x = torch.full((4,), 1e-3, dtype=torch.bfloat16)
    assert torch.equal(tanh(x), torch.tanh(x))
