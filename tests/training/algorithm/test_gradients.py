"""Clipping of the gradient: as torch does it, with the norms of the heads on the way."""

import math

import pytest
import torch

from rl_training.algorithm.gradients import GradientClipping
from tests.support.agents import setup


def with_gradients(scale):
    """An agent's network whose parameters all have a gradient, and copies of these."""
    _, agent, _ = setup()
    generator = torch.Generator().manual_seed(0)
    for parameter in agent.network.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return agent.network, [parameter.grad.clone() for parameter in agent.network.parameters()]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_it_clips_as_torch_does(scale):
    network, gradients = with_gradients(scale)
    norms = GradientClipping(network, 0.5).clip()
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        clipped, parameter.grad = parameter.grad, gradient
        gradient.clipped = clipped
    expected = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    assert norms.whole.item() == pytest.approx(expected.item(), rel=1e-5)
    for gradient in gradients:
        assert torch.allclose(gradient.clipped, gradient, rtol=1e-5, atol=0.0)


def test_the_norm_of_a_head_is_that_of_its_own_parameters():
    network, _ = with_gradients(1.0)
    parts = [parameter.grad.clone() for parameter in network.heads.parameters()]
    norms = GradientClipping(network, 0.5).clip()
    for head, norm in enumerate(norms.heads.tolist()):
        assert norm == pytest.approx(
            torch.cat([part[head].flatten() for part in parts]).norm().item(), rel=1e-5
        )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows_in_the_norm_of_the_whole(value):
    network, _ = with_gradients(1.0)
    network.actor.encoder.weight.grad[0, 0] = value
    norms = GradientClipping(network, 0.5).clip()
    assert not norms.whole.isfinite()
    assert norms.heads.isfinite().all()
