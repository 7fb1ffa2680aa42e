"""Losses of other kinds, of several agents, over padded steps, and with a delayed actor."""

import pytest
import torch
from tensordict.nn import TensorDictModule, set_composite_lp_aggregate
from torch import nn
from torch.distributions import Categorical
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss, KLPENPPOLoss, PPOLoss
from torchrl.objectives.multiagent import MAPPOLoss

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
from tests.support.update_by_hand import Evaluated, divergence, head_numbers


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
