"""Actor and critic: whose gradient reaches which trunk, and what the trunks see."""

import numpy as np
import pytest
import torch

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.policy.network import FactoredRecurrentActorCritic

LAYOUT = HeadLayout(["op", "slot"], [3, 2])
STEPS, ENVIRONMENTS, OBSERVED = 7, 3, 4


def network(**options):
    torch.manual_seed(0)
    return FactoredRecurrentActorCritic(OBSERVED, LAYOUT, 8, **options)


def evaluated(net, observations, starts=None):
    shape = (STEPS, ENVIRONMENTS)
    state = tuple(
        torch.randn(part.shape, generator=torch.Generator().manual_seed(2))
        for part in net.initial_state(ENVIRONMENTS)
    )
    starts = np.zeros(shape, bool) if starts is None else starts
    masks = torch.ones(*shape, LAYOUT.total, dtype=torch.bool)
    return net.evaluate_actions(
        observations, torch.zeros(*shape, 2, dtype=torch.long), masks, starts, state
    ), state


def observations():
    return torch.randn(STEPS, ENVIRONMENTS, OBSERVED, generator=torch.Generator().manual_seed(1))


def reached(net, loss):
    """The parts of the network whose parameters the loss moves."""
    named = list(net.named_parameters())
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named], allow_unused=True)
    return {
        name.partition(".")[0]
        for (name, _), gradient in zip(named, gradients, strict=True)
        if gradient is not None and gradient.abs().sum() > 0
    }


@pytest.mark.parametrize(("shared", "critic"), [(False, {"critic", "value"}), (True, {"actor", "value"})])
def test_the_value_loss_reaches_the_trunk_of_the_actor_only_where_it_is_shared(shared, critic):
    net = network(shared_critic=shared)
    evaluation, _ = evaluated(net, observations())
    assert reached(net, evaluation.values.square().sum()) == critic
    evaluation, _ = evaluated(net, observations())
    assert reached(net, evaluation.log_probs.sum()) == {"actor", "heads"}


@pytest.mark.parametrize("shared", [False, True])
def test_sequences_are_the_steps_one_after_the_other(shared):
    net, seen = network(shared_critic=shared), observations()
    starts = np.zeros((STEPS, ENVIRONMENTS), bool)
    starts[0, 0] = starts[3, 1] = starts[4, 1] = True
    evaluation, state = evaluated(net, seen, starts)
    for step in range(STEPS):
        keep = torch.as_tensor(~starts[step]).unsqueeze(-1)
        logits, values, state = net.step(seen[step], tuple(part * keep for part in state))
        assert torch.allclose(evaluation.logits[step], logits, atol=1e-6)
        assert torch.allclose(evaluation.values[step], values, atol=1e-6)


def test_log_probs_are_those_of_the_whole_evaluation():
    net, seen = network(), observations()
    evaluation, state = evaluated(net, seen)
    masks = torch.ones(STEPS, ENVIRONMENTS, LAYOUT.total, dtype=torch.bool)
    actions = torch.zeros(STEPS, ENVIRONMENTS, 2, dtype=torch.long)
    found = net.log_probs(seen, actions, masks, np.zeros((STEPS, ENVIRONMENTS), bool), state)
    assert torch.equal(found, evaluation.log_probs)


def test_an_observation_of_thousands_does_not_blind_the_policy_to_the_others():
    net, far = network(), observations()
    far[..., 0] = 1e9
    near = far.clone()
    near[..., 0] = 10.0
    (found, _), (expected, _) = evaluated(net, far), evaluated(net, near)
    assert torch.equal(found.logits, expected.logits)
    assert found.logits.std(0).min() > 0
