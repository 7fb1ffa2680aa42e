"""Policies and losses of other kinds: one distribution for all heads, one-hot actions, masks of every kind, agents."""

from functools import partial

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import CompositeDistribution, TensorDictModule, set_composite_lp_aggregate
from torch import nn
from torch.distributions import Categorical, Independent
from torchrl.data import Bounded, Composite, MultiCategorical
from torchrl.data import Categorical as CategoricalSpec
from torchrl.data import OneHot as OneHotSpec
from torchrl.modules import (
    MaskedCategorical,
    MaskedOneHotCategorical,
    OneHotCategorical,
    ProbabilisticActor,
    ValueOperator,
)
from torchrl.objectives import ClipPPOLoss, KLPENPPOLoss, PPOLoss
from torchrl.objectives.multiagent import MAPPOLoss

from rl_exporter import serve
from rl_exporter.integrations.torchrl import HeadEntropyHook, action_heads
from rl_exporter.integrations.torchrl.distributions import head_logits
from tests.support.update_by_hand import Evaluated, divergence, head_numbers

STEPS = 48
CLOSE = {"abs": 1e-6, "rel": 2e-6}


class Network(nn.Module):
    """Logits (…, *shape), and whatever a test makes of them."""

    def __init__(self, shape, shown=lambda logits: logits):
        super().__init__()
        self.layer, self.shape, self.shown = nn.Linear(4, int(np.prod(shape))), shape, shown
        with torch.no_grad():
            self.layer.weight.mul_(6.0)

    def forward(self, seen):
        return self.shown(self.layer(seen).unflatten(-1, self.shape))


def policy(network, distribution, **kwargs):
    torch.manual_seed(3)
    set_composite_lp_aggregate(False).set()
    key = "probs" if kwargs.pop("probabilities", False) else "logits"
    module = TensorDictModule(network, in_keys=["seen"], out_keys=[key])
    return ProbabilisticActor(
        module, in_keys=[key], distribution_class=distribution, return_log_prob=True, **kwargs
    )


def experience(actor, batch=(STEPS,), advantages=None):
    torch.manual_seed(7)
    found = TensorDict({"seen": torch.randn(*batch, 4)}, batch)
    with torch.no_grad():
        actor(found)
    found["advantage"] = torch.randn(*(advantages or batch), 1)
    found["value_target"] = torch.randn(*(advantages or batch), 1)
    return found


def run(actor, data, heads, kind=ClipPPOLoss, critic=None, **options):
    """One update: two epochs of three minibatches. The snapshot, and the logits of each minibatch."""
    critic = critic or ValueOperator(nn.Linear(4, 1), in_keys=["seen"])
    loss, seen = kind(actor, critic, **options), []
    optimizer = torch.optim.Adam(loss.parameters(), 0.02)
    network = actor[0].module
    with serve(heads, listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loss, recorder, frames_per_batch=data.numel())
        for order in (torch.arange(STEPS), torch.arange(STEPS).flip(0)):
            for index in order.chunk(3):
                with torch.no_grad():
                    seen.append(network(data["seen"][index]))
                output = loss(data[index])
                sum(value.sum() for key, value in output.items() if key.startswith("loss_")).backward()
                optimizer.step()
                optimizer.zero_grad()
        hook.record()
        return recorder.snapshot(), seen


def epochs_of(seen, data, actions, masks=None, old=None):
    """As ``Evaluated``, one head, from logits (S, n) of each minibatch."""
    found = []
    for logits, order in zip(
        (seen[:3], seen[3:]), (torch.arange(STEPS), torch.arange(STEPS).flip(0)), strict=True
    ):
        rows = torch.cat(logits).double().numpy()
        valid = np.ones(rows.shape, bool) if masks is None else masks[order]
        sampled = data["action_log_prob"] if old is None else old
        found.append(
            Evaluated(
                [rows], [valid], actions[order][:, None].numpy(), sampled[order].numpy()[:, None],
                data["advantage"][order].flatten().double().numpy(),
            )
        )  # fmt: skip
    return found


def assert_head(reading, expected):
    for number, value in expected.items():
        assert getattr(reading, number) == (None if value is None else pytest.approx(value, **CLOSE)), number


@pytest.mark.parametrize("kind", [ClipPPOLoss, KLPENPPOLoss, PPOLoss])
def test_a_plain_policy_under_every_loss(kind):
    actor = policy(Network((5,)), Categorical)
    data = experience(actor)
    snapshot, seen = run(actor, data, {"action": 5}, kind)
    assert snapshot.record_errors == 0
    epochs = epochs_of(seen, data, data["action"])
    assert_head(snapshot.tamiyo.readings["action"], head_numbers(epochs, 0, masked=False))
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence(epochs), **CLOSE)
    assert (snapshot.tamiyo.clipped_share is not None) == (kind is ClipPPOLoss)


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


def test_every_agent_decides_at_every_frame():
    agents = 3

    class Decentral(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 5)

        def forward(self, seen):
            return self.layer(torch.stack([seen * (agent + 1) for agent in range(agents)], -2))

    set_composite_lp_aggregate(False).set()
    torch.manual_seed(3)
    module = TensorDictModule(Decentral(), in_keys=["seen"], out_keys=[("agents", "logits")])
    actor = ProbabilisticActor(
        module, in_keys=[("agents", "logits")], out_keys=[("agents", "action")],
        distribution_class=Categorical, return_log_prob=True,
    )  # fmt: skip
    data = experience(actor, advantages=(STEPS, agents))
    data["agents", "advantage"] = data.pop("advantage")
    data["agents", "value_target"] = data.pop("value_target")
    critic = ValueOperator(
        nn.Sequential(nn.Linear(4, agents), nn.Unflatten(-1, (agents, 1))),
        in_keys=["seen"], out_keys=[("agents", "state_value")],
    )  # fmt: skip

    def kind(*arguments):
        loss = MAPPOLoss(*arguments)
        loss.set_keys(
            advantage=("agents", "advantage"),
            value_target=("agents", "value_target"),
            value=("agents", "state_value"),
        )
        return loss

    snapshot, seen = run(actor, data, {"action": 5}, kind, critic)
    assert snapshot.record_errors == 0
    reading = snapshot.tamiyo.readings["action"]
    log_probs = torch.cat(seen).double().log_softmax(-1)
    assert reading.entropy == pytest.approx(-(log_probs.exp() * log_probs).sum(-1).mean().item(), **CLOSE)
    old = data["agents", "action_log_prob"].double()
    sampled = data["agents", "action"].unsqueeze(-1)
    ratios = [
        (log_probs[part].gather(-1, sampled[order]).squeeze(-1) - old[order]).exp()
        for part, order in (
            (slice(STEPS), torch.arange(STEPS)),
            (slice(STEPS, None), torch.arange(STEPS).flip(0)),
        )
    ]
    assert reading.importance_ratio_max == pytest.approx(torch.stack(ratios).max().item(), **CLOSE)
    assert reading.advantage_margin is not None


def test_padding_counts_nowhere():
    actor = policy(Network((5,)), Categorical)
    data = experience(actor)
    real = torch.arange(STEPS) % 3 > 0
    data["collector", "mask"] = real
    data["seen"][~real] = 1e3
    snapshot, seen = run(actor, data, {"action": 5})
    whole = epochs_of(seen, data, data["action"])
    kept = [
        Evaluated([one.logits[0][valid]], [one.masks[0][valid]], *(part[valid] for part in one[2:]))
        for one, valid in zip(whole, (real.numpy(), real.flip(0).numpy()), strict=True)
    ]
    assert snapshot.record_errors == 0
    assert_head(snapshot.tamiyo.readings["action"], head_numbers(kept, 0, masked=False))
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence(kept), **CLOSE)


@pytest.mark.filterwarnings("ignore:No target network updater")
def test_the_proximal_policy_of_a_delayed_actor_is_not_measured():
    actor = policy(Network((5,)), Categorical)
    data = experience(actor)
    for kind in (ClipPPOLoss, KLPENPPOLoss):
        snapshot, seen = run(actor, data, {"action": 5}, kind, delay_actor=True)
        expected = head_numbers(epochs_of(seen, data, data["action"]), 0, masked=False)
        assert snapshot.tamiyo.readings["action"].entropy == pytest.approx(expected["entropy"], **CLOSE)


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
