"""Policies and agents of other kinds: one head, masks and probabilities of their own, A2C, shared models, recurrent ones."""

import numpy as np
import pytest
import torch
from skrl.agents.torch.a2c import A2C
from skrl.agents.torch.ppo import PPO_RNN
from skrl.models.torch import Model

from rl_exporter.integrations.skrl import action_heads
from tests.exporter.integrations.skrl.measuring import CLOSE, SIZES, assert_heads, measured
from tests.support.skrl_reach import ENVIRONMENTS, PlainPolicy, Policy, Witness, environment, make_agent
from tests.support.update_by_hand import divergence


def test_a_policy_with_one_head(monkeypatch):
    env = environment(5)
    agent = make_agent(env, PlainPolicy)
    witness = Witness(agent, [5], monkeypatch)
    snapshot = measured(env, agent)
    assert_heads(snapshot, witness.whole(), witness.norms)
    assert snapshot.tamiyo.readings["action"].importance_ratio_max > 1.0
    assert snapshot.episode_return is None  # with write_interval=0 the agent tracks no episodes


@pytest.mark.parametrize("value", [-1e8, -torch.inf, torch.finfo(torch.float32).min])
def test_a_policy_that_masks_its_own_logits(monkeypatch, value):
    def masks_of(seen):
        allowed = torch.cat([seen, -seen, seen], 1) > 0.4
        allowed[:, [0, 4, 6]] = True
        return allowed

    env = environment()
    shown = {"shown": lambda logits, seen: logits.masked_fill(~masks_of(seen), value)}
    agent = make_agent(env, policy_options=shown)
    witness = Witness(agent, SIZES, monkeypatch, masks_of)
    snapshot = measured(env, agent)
    assert 0.0 < snapshot.tamiyo.readings["head_1"].choice_share < 1.0
    assert_heads(snapshot, witness.whole(), witness.norms, masked=True)


@pytest.mark.parametrize(("policy", "sizes"), [(Policy, SIZES), (PlainPolicy, 5)])
def test_a_policy_of_probabilities(monkeypatch, policy, sizes):
    """One of them is 0, which is no mask; torch takes its logit from 1e-7."""
    segments = [sizes] if isinstance(sizes, int) else list(sizes)

    def shown(logits, seen):
        parts = [part.softmax(1) for part in logits.split(segments, 1)]
        first = torch.arange(segments[0]) == 0
        return torch.cat([torch.where(first, parts[0] * 0.0, parts[0]), *parts[1:]], 1)

    env = environment(sizes)
    agent = make_agent(env, policy, policy_options={"shown": shown, "unnormalized_log_prob": False})
    witness = Witness(agent, segments, monkeypatch)
    snapshot = measured(env, agent)
    (name, reading), *_ = snapshot.tamiyo.readings.items()
    log_probs = [np.log(np.exp(x[:, 1:]) / np.exp(x[:, 1:]).sum(1, keepdims=True)) for x, in
                 ([epoch.logits[0]] for epoch in witness.whole())]  # fmt: skip
    expected = np.mean([-(np.exp(x) * x).sum(1).mean() for x in log_probs])
    assert snapshot.record_errors == 0
    assert reading.entropy == pytest.approx(expected, **CLOSE), name
    assert (reading.choice_share, reading.action_shares[0]) == (None, pytest.approx(0.0, abs=1e-12))


def test_a2c(monkeypatch):
    env = environment()
    agent = make_agent(env, kind=A2C)
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    (epoch,) = witness.whole()
    assert_heads(snapshot, [epoch], witness.norms)
    assert snapshot.tamiyo.clipped_share is None
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence([epoch]), **CLOSE)
    assert snapshot.tamiyo.value_loss == pytest.approx(agent.tracking_data["Loss / Value loss"][-1] / 2)


def test_a_policy_that_is_its_own_value(monkeypatch):
    class Shared(Policy):
        """As in skrl's examples of shared models."""

        def __init__(self, env):
            super().__init__(env)
            self.value_layer = torch.nn.Linear(4, 1)

        def act(self, inputs, role):
            if role == "policy":
                return super().act(inputs, role=role)
            return self.value_layer(inputs["observations"]), {}

    env = environment()
    agent = make_agent(env, Shared, value=lambda policy: policy)
    witness = Witness(agent, SIZES, monkeypatch)
    assert_heads(measured(env, agent), witness.whole(), witness.norms)


@pytest.mark.parametrize("reduction", ["mean", "prod"])
def test_a_log_probability_that_is_no_sum_gives_no_ratios(monkeypatch, reduction):
    env = environment()
    agent = make_agent(env, policy_options={"reduction": reduction})
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    assert snapshot.tamiyo.kl_divergence is snapshot.tamiyo.clipped_share is None
    assert_heads(snapshot, witness.whole(), witness.norms)


def test_a_recurrent_agent():
    """PPO_RNN samples once an update, and goes through the same minibatches at every epoch."""

    class Recurrent(Policy):
        def __init__(self, env):
            super().__init__(env)
            self.lstm = torch.nn.LSTM(4, 4, batch_first=True)
            self.entropies = []

        def get_specification(self):
            size = (1, ENVIRONMENTS, 4)
            return {"rnn": {"sequence_length": 4, "sizes": [size, size]}}

        def compute(self, inputs, role):
            seen, (hidden, cell) = inputs["observations"], inputs["rnn"]
            if self.training:
                seen = seen.view(-1, 4, 4)
                first = [state.view(1, -1, 4, 4)[:, :, 0].contiguous() for state in (hidden, cell)]
                out, state = self.lstm(seen, tuple(first))
                logits = self.layer(out.flatten(0, 1))
                parts = [part.detach().double().log_softmax(1) for part in logits.split(list(SIZES), 1)]
                self.entropies.append([-(part.exp() * part).sum(1) for part in parts])
                return logits, {"rnn": list(state)}
            out, state = self.lstm(seen.view(-1, 1, 4), (hidden, cell))
            return self.layer(out.flatten(0, 1)), {"rnn": list(state)}

    env = environment()
    agent = make_agent(env, Recurrent, PPO_RNN, learning_epochs=2)
    snapshot = measured(env, agent)
    assert snapshot.record_errors == 0
    assert len(agent.policy.entropies) == 6
    for head, reading in enumerate(snapshot.tamiyo.readings.values()):
        expected = torch.cat([minibatch[head] for minibatch in agent.policy.entropies]).mean().item()
        assert reading.entropy == pytest.approx(expected, **CLOSE)
        assert reading.gradient_norm > 0.0
    assert snapshot.tamiyo.kl_divergence >= 0.0


def test_epochs_over_the_same_minibatches_can_be_cut_short(monkeypatch):
    """PPO_RNN goes back to its first minibatch, of which the memory tells nothing."""
    env = environment()
    agent = make_agent(env, Policy, PPO_RNN, learning_epochs=4, learning_rate=0.05, kl_threshold=0.05)
    epochs, act, clip = [[]], agent.policy.act, torch.nn.utils.clip_grad_norm_
    stepped = [True]

    def acting(inputs, **options):
        if "taken_actions" in inputs:
            if not stepped[0] or len(epochs[-1]) == 3:
                epochs.append([])
            stepped[0] = False
            with torch.no_grad():
                logits = agent.policy.layer(inputs["observations"]).double()
            parts = [part.log_softmax(1) for part in logits.split(list(SIZES), 1)]
            epochs[-1].append([-(part.exp() * part).sum(1) for part in parts])
        return act(inputs, **options)

    def clipping(*arguments):
        stepped[0] = True
        return clip(*arguments)

    monkeypatch.setattr(agent.policy, "act", acting)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipping)
    snapshot = measured(env, agent)
    whole = [epoch for epoch in epochs if len(epoch) == 3]
    assert (len(epochs), snapshot.record_errors) == (4, 0)
    assert 1 <= len(whole) < 4
    for head, reading in enumerate(snapshot.tamiyo.readings.values()):
        expected = np.mean([torch.cat([part[head] for part in epoch]).mean() for epoch in whole])
        assert reading.entropy == pytest.approx(expected, **CLOSE)


def test_names_of_heads():
    assert action_heads(environment()) == {"head_0": 4, "head_1": 2, "head_2": 6}
    assert action_heads(environment(5)) == {"action": 5}
    named = environment(SIZES, ["gripper", "valve", "arm"])
    assert action_heads(named) == {"gripper": 4, "valve": 2, "arm": 6}
    assert action_heads(named, ["a", "b", "c"]) == {"a": 4, "b": 2, "c": 6}
    with pytest.raises(ValueError, match="2 head names for 3 heads; give one for each"):
        action_heads(named, ["a", "b"])
    with pytest.raises(ValueError, match="has no heads; measured are MultiDiscrete and Discrete ones"):
        action_heads(named.observation_space)
    assert issubclass(Policy, Model)
