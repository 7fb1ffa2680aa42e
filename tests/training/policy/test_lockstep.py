"""Trunks in lockstep compute what each would with nn.LSTM, and so does their gradient."""

import copy

import numpy as np
import pytest
import torch

from rl_training.policy import lockstep
from rl_training.policy.fragments import Fragments
from rl_training.policy.trunk import RecurrentTrunk, Trunks

STEPS, ENVIRONMENTS, OBSERVED, HIDDEN = 9, 4, 2, 3
CPU = torch.device("cpu")


def trunks(count, dtype=torch.float64):
    torch.manual_seed(0)
    made = [RecurrentTrunk(OBSERVED, HIDDEN).to(dtype) for _ in range(count)]
    for trunk in made:  # biases, too, must be told apart
        for bias in (trunk.encoder.bias, trunk.lstm.bias_ih_l0, trunk.lstm.bias_hh_l0):
            torch.nn.init.normal_(bias)
    return made


def weights(made):
    return [weight for trunk in made for weight in trunk.weights()]


def case(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(STEPS, ENVIRONMENTS, OBSERVED, generator=generator, dtype=dtype)
    state = tuple(
        torch.randn(ENVIRONMENTS, count * HIDDEN, generator=generator, dtype=dtype).tanh() for _ in range(2)
    )
    starts = np.zeros((STEPS, ENVIRONMENTS), bool)
    starts[0, 0] = starts[3, 1] = starts[4, 1] = starts[8, 2] = True
    return observations, Fragments.of(starts, CPU), state


def each_by_itself(made, observations, fragments, state):
    parts = zip(*(part.chunk(len(made), -1) for part in state), strict=True)
    return torch.stack(
        [trunk.sequence(observations, fragments, own) for trunk, own in zip(made, parts, strict=True)]
    )


@pytest.mark.parametrize("count", [1, 2])
def test_features_and_gradients_are_those_of_nn_lstm(count):
    made = trunks(count)
    observations, fragments, state = case(count)
    found = lockstep.sequences(weights(made), observations, fragments, state)
    expected = each_by_itself(made, observations, fragments, state)
    assert torch.allclose(found, expected, atol=1e-12)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=found.dtype)
    gradients = torch.autograd.grad(found, weights(made), upstream)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, weights(made), upstream), strict=True):
        assert torch.allclose(gradient, other, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    observations, fragments, state = case(2)
    parameters = [weight.detach().clone().requires_grad_() for weight in weights(trunks(2))]
    assert torch.autograd.gradcheck(
        lambda *given: lockstep.sequences(given, observations, fragments, state), parameters
    )


def test_steps_one_after_the_other_are_the_sequence():
    made = trunks(2)
    observations, _, state = case(2)
    fragments = Fragments.of(np.zeros((STEPS, ENVIRONMENTS), bool), CPU)
    expected = lockstep.sequences(weights(made), observations, fragments, state)
    for now in range(STEPS):
        features, state = lockstep.step(weights(made), observations[now], state)
        assert torch.allclose(features, expected[:, now], atol=1e-12)


def test_laid_together_weights_are_not_copied_and_keep_their_values():
    made = trunks(2)
    before = [weight.detach().clone() for weight in weights(made)]
    Trunks(made)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(made), strict=True))
    together = lockstep.Weights.of(weights(made))
    made[1].lstm.weight_hh_l0.data.fill_(7.0)
    assert (together.recurrent[1] == 7).all()
    assert not (together.recurrent[0] == 7).any()


def test_weights_that_were_copied_apart_still_count():
    """Of a copy of the network, say, whose weights lie anywhere."""
    made = trunks(2)
    Trunks(made)
    apart = copy.deepcopy(made)
    together = lockstep.Weights.of(weights(apart))
    assert torch.equal(together.recurrent[1], made[1].lstm.weight_hh_l0)
    apart[1].lstm.weight_hh_l0.data.fill_(7.0)
    assert (lockstep.Weights.of(weights(apart)).recurrent[1] == 7).all()


def test_elsewhere_than_on_a_cpu_nn_lstm_runs(monkeypatch):
    """cuDNN serves it on a GPU; here it runs on the CPU, because the lockstep pass is hidden."""
    made = trunks(2)
    together = Trunks(made)
    observations, fragments, state = case(2)
    expected = together.sequences(observations, fragments, state), together.step(observations[0], state)
    monkeypatch.setattr("rl_training.policy.trunk._LOCKSTEP_DEVICES", ())
    monkeypatch.delattr(lockstep, "sequences")
    monkeypatch.delattr(lockstep, "step")
    found = together.sequences(observations, fragments, state), together.step(observations[0], state)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
