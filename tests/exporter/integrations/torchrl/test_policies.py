"""Policies of other kinds: one distribution for all heads, one-hot actions, masks of every kind, actions beside heads."""

from functools import partial

import pytest
import torch
from tensordict.nn import CompositeDistribution, TensorDictModule, set_composite_lp_aggregate
from torch import nn
from torch.distributions import Categorical, Independent
from torchrl.data import Bounded, Composite, MultiCategorical
from torchrl.data import Categorical as CategoricalSpec
from torchrl.data import OneHot as OneHotSpec
from torchrl.modules import MaskedCategorical, MaskedOneHotCategorical, OneHotCategorical, ProbabilisticActor
from torchrl.objectives import ClipPPOLoss

from rl_exporter.integrations.torchrl import action_heads
from rl_exporter.integrations.torchrl.distributions import head_logits
from tests.exporter.integrations.torchrl.one_update import (
    CLOSE,
    STEPS,
    Network,
    assert_head,
    epochs_of,
    experience,
    policy,
    run,
)
from tests.support.update_by_hand import head_numbers


@pytest.mark.parametrize("batch", [(STEPS,), (STEPS, 5)])
def test_one_hot_actions(batch):
    """Also with as many steps in a row as actions."""
    actor = policy(Network((5,)), OneHotCategorical)
    data = experience(actor, batch)
    snapshot, seen = run(actor, data, {"action": 5})
    assert snapshot.record_errors == 0
    if len(batch) == 1:
        epochs = epochs_of(seen, data, data["action"].int().argmax(-1))
        assert_head(snapshot.tamiyo.readings["action"], head_numbers(epochs, 0, masked=False))
    assert snapshot.tamiyo.readings["action"].advantage_margin is not None


def test_several_heads_in_one_distribution():
    heads = {"left": 3, "right": 3}
    actor = policy(Network((2, 3)), lambda logits: Independent(Categorical(logits=logits), 1))
    data = experience(actor)
    snapshot, seen = run(actor, data, heads)
    assert snapshot.record_errors == 0
    for head, name in enumerate(heads):
        epochs = epochs_of([one[:, head] for one in seen], data, data["action"][:, head])
        # What the actor stored is of both heads together, so that neither has a ratio of its own.
        expected = head_numbers(epochs, 0, masked=False) | {"importance_ratio_max": None}
        assert_head(snapshot.tamiyo.readings[name], expected)
    log_probs = torch.cat(seen).double().log_softmax(-1)
    orders = torch.cat([torch.arange(STEPS), torch.arange(STEPS).flip(0)])
    new = log_probs.gather(-1, data["action"][orders].unsqueeze(-1)).sum((1, 2))
    log_ratio = new - data["action_log_prob"][orders]
    expected = (log_ratio.exp() - 1 - log_ratio).mean().item()
    assert snapshot.tamiyo.kl_divergence == pytest.approx(expected, **CLOSE)


MASKS = torch.rand(STEPS, 5, generator=torch.Generator().manual_seed(1)) < 0.6
MASKS[:, 0] = True


@pytest.mark.parametrize("value", [-1e8, -torch.inf, torch.finfo(torch.float32).min])
def test_masks_that_only_the_logits_show(value):
    network = Network((5,))
    mask_of = nn.Parameter(torch.randn(4, 5), requires_grad=False)

    def shown(module, arguments, logits):
        allowed = arguments[0] @ mask_of > 1.0
        allowed[..., 0] = True
        return logits.masked_fill(~allowed, value)

    network.register_forward_hook(shown)
    actor = policy(network, Categorical)
    data = experience(actor)
    snapshot, seen = run(actor, data, {"action": 5})
    masks = (data["seen"] @ mask_of > 1.0).numpy()
    masks[:, 0] = True
    assert snapshot.record_errors == 0
    expected = head_numbers(epochs_of(seen, data, data["action"], masks), 0, masked=True)
    assert 0.0 < expected["choice_share"] < 1.0
    assert_head(snapshot.tamiyo.readings["action"], expected)


def test_a_probability_of_zero_is_no_mask():
    """torch takes logits from probabilities that it raises to 1e-7: five of those would be 6e-6 nats."""

    def certain(logits):
        return torch.where(torch.arange(5) == 0, 1.0, logits * 0.0)

    actor = policy(Network((5,), certain), Categorical, probabilities=True)
    snapshot, _ = run(actor, experience(actor), {"action": 5})
    reading = snapshot.tamiyo.readings["action"]
    assert snapshot.record_errors == 0
    assert (reading.entropy, reading.choice_share) == (pytest.approx(0.0, abs=1e-12), None)


@pytest.mark.parametrize("negative", [-torch.inf, -50.0])
@pytest.mark.parametrize("kind", [MaskedCategorical, MaskedOneHotCategorical])
def test_a_masked_distribution_knows_its_mask(kind, negative):
    logits = torch.randn(STEPS, 5)
    found = head_logits(kind(logits=logits, mask=MASKS, neg_inf=negative))
    assert ((found == -torch.inf) == ~MASKS).all()
    assert torch.allclose(found.softmax(1), logits.masked_fill(~MASKS, -torch.inf).softmax(1))


def test_a_distribution_of_valid_indices_is_as_wide_as_its_head():
    logits = torch.randn(6, 5)
    indices = torch.tensor([[0, 3, 4]] * 6)
    found = head_logits(MaskedCategorical(logits=logits, indices=indices))
    valid = torch.tensor([True, False, False, True, True])
    assert torch.allclose(found.softmax(1), logits.masked_fill(~valid, -torch.inf).softmax(1))
    padded = torch.tensor([[0, 3, -1]] * 6)
    found = head_logits(MaskedCategorical(logits=logits, indices=padded, padding_value=-1))
    valid = torch.tensor([True, False, False, True, False])
    assert torch.allclose(found.softmax(1), logits.masked_fill(~valid, -torch.inf).softmax(1))


@pytest.mark.filterwarnings("ignore:You are using a composite distribution")
@pytest.mark.parametrize("aggregate", [False, True])
def test_a_head_beside_an_action_that_is_not_categorical(aggregate):
    """With one log-probability for all actions together, heads have no ratios of their own."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 7)

        def forward(self, seen):
            arm, loc = self.layer(seen).split([5, 2], -1)
            return arm, loc, torch.ones_like(loc)

    torch.manual_seed(3)
    with set_composite_lp_aggregate(aggregate):
        module = TensorDictModule(
            Mixed(), in_keys=["seen"],
            out_keys=[("params", "arm", "logits"), ("params", "push", "loc"), ("params", "push", "scale")],
        )  # fmt: skip
        normal = partial(lambda loc, scale: Independent(torch.distributions.Normal(loc, scale), 1))
        actor = ProbabilisticActor(
            module, in_keys=["params"], return_log_prob=True, out_keys=["arm", "push"],
            distribution_class=CompositeDistribution,
            distribution_kwargs={"distribution_map": {"arm": Categorical, "push": normal}},
        )  # fmt: skip

        def kind(*arguments):
            loss = ClipPPOLoss(*arguments)
            if aggregate:
                loss.set_keys(action=["arm", "push"])
            return loss

        snapshot, seen = run(actor, experience(actor), {"arm": 5}, kind)
    reading = snapshot.tamiyo.readings["arm"]
    log_probs = torch.cat([one[0] for one in seen]).double().log_softmax(-1)
    assert snapshot.record_errors == 0
    assert reading.entropy == pytest.approx(-(log_probs.exp() * log_probs).sum(-1).mean().item(), **CLOSE)
    assert (reading.importance_ratio_max is None) == aggregate
    assert snapshot.tamiyo.kl_divergence is None


def test_heads_of_action_specs():
    assert action_heads(CategoricalSpec(5)) == {"action": 5}
    assert action_heads(OneHotSpec(5)) == {"action": 5}
    assert action_heads(MultiCategorical([4, 9])) == {"head_0": 4, "head_1": 9}
    assert action_heads(MultiCategorical([4, 9]).expand(3, 2)) == {"head_0": 4, "head_1": 9}
    nested = Composite(arm=CategoricalSpec(9), force=Bounded(-1, 1, (2,)), agents=Composite(move=OneHotSpec(3)))
    assert action_heads(nested) == {"arm": 9, "agents.move": 3}
    with pytest.raises(ValueError, match=r"the action spec Bounded.* has no categorical action to measure"):
        action_heads(Bounded(-1, 1, (2,)))
