"""A coefficient of the entropy bonus for each head of a real loss of TorchRL."""

import pytest

from rl_exporter import Heads, RunInfo, SanctumAggregator
from rl_exporter.integrations.torchrl import entropy_coefficients, set_entropy_coefficients
from rl_exporter.intervention import EntropyController
from tests.support.torchrl_reach import SIZES, Loop

BASE = dict.fromkeys(SIZES, 0.01)


@pytest.fixture(scope="module")
def loop():
    return Loop(entropy_coeff=entropy_coefficients(BASE))


def bonus(loop, batch):
    """The entropy loss, and the entropy of each head, of one evaluation."""
    found = loop.loss(batch)
    return found["loss_entropy"].item(), {
        n: found["composite_entropy", f"{n}_entropy"].mean().item() for n in SIZES
    }


def test_the_loss_of_the_next_evaluation_has_the_coefficients_of_each_head(loop):
    batch = loop.rollout()
    for coefficients in (BASE, {"arm": 0.5, "gripper": 0.0, "valve": 0.02}, BASE):
        set_entropy_coefficients(loop.loss, coefficients)
        loss, entropies = bonus(loop, batch)
        assert loss == pytest.approx(
            -sum(coefficients[name] * nats for name, nats in entropies.items()), rel=1e-5
        )


def test_what_a_controller_gives_fits(loop):
    heads = Heads.of(SIZES)
    controller = EntropyController(heads, {"arm": 0.4})
    snapshot = SanctumAggregator(heads, RunInfo("run")).snapshot()
    set_entropy_coefficients(loop.loss, controller.coefficients(snapshot, 0.01))
    assert loop.loss._entropy_coeff_map == {f"{name}_entropy": 0.01 for name in SIZES}


def test_a_nested_head_has_a_nested_key():
    assert entropy_coefficients({"agents.move": 1}) == {("agents", "move_entropy"): 1.0}


def test_what_does_not_fit_is_refused_and_changes_nothing(loop):
    with pytest.raises(ValueError, match=r"no entropy coefficient of \['leg'\]"):
        set_entropy_coefficients(loop.loss, {"arm": 9.0, "leg": 1.0})
    assert 9.0 not in loop.loss._entropy_coeff_map.values()
    with pytest.raises(ValueError, match="one entropy coefficient for all heads; make it with"):
        set_entropy_coefficients(Loop().loss, BASE)
