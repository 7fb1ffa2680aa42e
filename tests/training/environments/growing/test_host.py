"""Curves, blueprints, styles and the host that they join."""

import itertools

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from rl_training.action_space import AlphaCurve, Blueprint, Style
from rl_training.environments.growing.blueprints import build
from rl_training.environments.growing.curves import Ramp, progress
from rl_training.environments.growing.data import digits
from rl_training.environments.growing.host import CHANNELS, SIDE, GrowingNetwork, LearningRates
from rl_training.environments.growing.lifecycle import SlotState, Stage, dormant_slots
from rl_training.environments.growing.styles import Graft

GROWN = [blueprint for blueprint in Blueprint if blueprint is not Blueprint.NOOP]


@pytest.mark.parametrize("curve", AlphaCurve)
def test_curves_rise_from_0_to_1_and_are_symmetric(curve):
    shares = [step / 40 for step in range(41)]
    values = [progress(curve, share) for share in shares]
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert all(a < b for a, b in itertools.pairwise(values))
    assert [1 - v for v in reversed(values)] == pytest.approx(values)


def test_curves_differ_in_their_steepness():
    quarter = [progress(curve, 0.25) for curve in AlphaCurve]
    assert quarter == pytest.approx([0.25, 0.14645, 0.14915, 0.04518, 0.00247], abs=1e-5)


def test_a_ramp_ends_exactly_at_its_target():
    ramp = Ramp(1.0, 0.7, 3, AlphaCurve.SIGMOID)
    seen = []
    for _ in range(4):
        seen.append((ramp.alpha, ramp.under_way, ramp.done))
        ramp = ramp.after_a_step()
    assert [alpha for alpha, _, _ in seen] == pytest.approx([1.0, 0.96481, 0.73519, 0.7], abs=1e-5)
    assert seen[-1][0] == 0.7
    assert [state for _, *state in seen] == [[False, False], [True, False], [True, False], [False, True]]
    assert Ramp(0.5, 0.5, 8).done


def test_patches_are_those_of_a_convolution_of_stride_2():
    weight = torch.randn(CHANNELS, 9, generator=torch.Generator().manual_seed(0))
    images = torch.as_tensor(load_digits().images / 8 - 1, dtype=torch.float32).unsqueeze(1)
    expected = functional.conv2d(images, weight.view(CHANNELS, 1, 3, 3), stride=2, padding=1)
    by_position = expected.flatten(2).transpose(1, 2)
    found = torch.cat([digits().validation_patches, digits().patches]) @ weight.T
    assert found.shape == (1797, SIDE**2, CHANNELS)
    assert torch.allclose(found.sum(0), by_position.sum(0), rtol=1e-4, atol=1e-2)
    assert torch.allclose(found.sum((1, 2)).sort()[0], by_position.sum((1, 2)).sort()[0], atol=1e-3)


def features(seed=0):
    return torch.randn(4, SIDE**2, CHANNELS, generator=torch.Generator().manual_seed(seed)).relu()


@pytest.mark.parametrize("blueprint", Blueprint)
def test_a_blueprint_keeps_the_shape_and_trains(blueprint):
    torch.manual_seed(0)
    module = build(blueprint, CHANNELS, SIDE)
    x = features().requires_grad_()
    out = module(x)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()
    if blueprint is Blueprint.NOOP:
        assert (out == 0).all()
        assert list(module.parameters()) == []
        return
    target = features(seed=1)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    losses = []
    for _ in range(20):
        loss = (module(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
            assert x.grad.abs().sum() > 0
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0]


def test_blueprints_are_thirteen_different_functions():
    outputs, sizes = [], {}
    for blueprint in Blueprint:
        torch.manual_seed(0)
        module = build(blueprint, CHANNELS, SIDE)
        outputs.append(module(features()))
        sizes[blueprint] = sum(p.numel() for p in module.parameters())
    assert len(outputs) == 13
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(outputs, 2))
    for small, large in (
        (Blueprint.LORA, Blueprint.LORA_LARGE),
        (Blueprint.MLP_SMALL, Blueprint.MLP),
        (Blueprint.CONV_LIGHT, Blueprint.CONV_SMALL),
        (Blueprint.CONV_SMALL, Blueprint.CONV_HEAVY),
        (Blueprint.ATTENTION, Blueprint.FLEX_ATTENTION),
    ):
        assert sizes[small] < sizes[large]


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize("blueprint", GROWN)
def test_a_style_leaves_the_host_alone_at_alpha_0_and_not_at_alpha_1(blueprint, style):
    torch.manual_seed(0)
    graft = Graft(blueprint, CHANNELS, SIDE)
    x = features()
    assert torch.equal(graft.join(x, style, 0.0), x)
    full, half = graft.join(x, style, 1.0), graft.join(x, style, 0.5)
    assert not torch.allclose(full, x)
    assert torch.allclose(half, (x + full) / 2, atol=1e-6)
    full.square().sum().backward()
    assert all(p.grad is not None for p in graft.module.parameters())
    assert (graft.gate.weight.grad is not None) == (style is Style.GATED_GATE)


def test_styles_differ():
    torch.manual_seed(0)
    graft = Graft(Blueprint.CONV_SMALL, CHANNELS, SIDE)
    outputs = [graft.join(features(), style, 1.0) for style in Style]
    assert not any(torch.allclose(a, b) for a, b in itertools.combinations(outputs, 2))


def network(seed=0):
    return GrowingNetwork(digits(), torch.Generator().manual_seed(seed), LearningRates(0.01, 0.01))


def slots_with(stage, alpha=0.0, blueprint=Blueprint.CONV_SMALL):
    return (SlotState(stage, blueprint=blueprint, ramp=Ramp(alpha, alpha)), *dormant_slots()[1:])


def test_germination_and_pruning_change_nothing_that_validation_sees():
    net = network()
    before = net.validate(dormant_slots())
    germinated = slots_with(Stage.GERMINATED)
    net.follow(germinated)
    assert net.parameters_of(0) == 8 * 8 * 9 + 8 + 8 * 8 + 8
    assert net.validate(germinated) == before
    assert net.validate(slots_with(Stage.HOLDING, alpha=1.0)) != before
    net.follow(dormant_slots())
    assert net.parameters_of(0) == 0
    assert net.validate(dormant_slots()) == before


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


@pytest.mark.parametrize(
    ("stage", "alpha", "trains"),
    [
        (Stage.GERMINATED, 0.0, False),
        (Stage.TRAINING, 0.0, True),
        (Stage.BLENDING, 0.0, True),
        (Stage.BLENDING, 0.5, True),
        (Stage.HOLDING, 1.0, True),
        (Stage.FOSSILIZED, 1.0, True),
    ],
)
def test_a_module_trains_from_its_training_on(stage, alpha, trains):
    net = network()
    slots = slots_with(stage, alpha)
    net.follow(slots)
    graft = net._grafts[0]
    before = weights(graft.module)
    net.train_epoch(slots, 128, 64)
    assert (not torch.equal(before, weights(graft.module))) == trains
    assert (net.gradient_norm(0) > 0) == trains


def test_training_alone_never_changes_the_host_that_trains_beside_it():
    alone, beside = network(), network()
    germinated = slots_with(Stage.TRAINING)
    beside.follow(germinated)
    alone.follow(germinated)
    beside.train_epoch(germinated, 128, 64)
    alone.train_epoch(slots_with(Stage.GERMINATED), 128, 64)
    assert torch.equal(weights(alone._host), weights(beside._host))


def test_the_host_learns_and_torchs_own_generator_is_left_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    net = network()
    slots = dormant_slots()
    losses = [net.train_epoch(slots, 256, 64) for _ in range(20)]
    assert losses[-1] < losses[0] - 0.1
    assert torch.equal(state, torch.get_rng_state())
