"""Every number of rl_exporter.integrations.skrl with real agents, against a second forward pass and NumPy."""

import numpy as np
import pytest
import torch
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.resources.schedulers.torch import KLAdaptiveLR

from tests.exporter.integrations.skrl.measuring import CLOSE, SIZES, STEPS, assert_heads, measured
from tests.support.skrl_reach import ENVIRONMENTS, ROLLOUTS, Witness, environment, make_agent
from tests.support.update_by_hand import clipped_share, divergence, head_numbers


def test_every_number_of_a_policy_with_several_heads(monkeypatch, tmp_path):
    env = environment()
    agent = make_agent(
        env, experiment={"write_interval": 1000, "checkpoint_interval": 0, "directory": str(tmp_path)}
    )
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    epochs = witness.whole()
    assert [len(epoch.actions) for epoch in epochs] == [STEPS, STEPS]
    assert_heads(snapshot, epochs, witness.norms)
    policy = snapshot.tamiyo
    assert policy.kl_divergence == pytest.approx(divergence(epochs), **CLOSE)
    assert policy.clipped_share == pytest.approx(clipped_share(epochs, 0.2), abs=1e-6)
    assert policy.policy_loss == pytest.approx(agent.tracking_data["Loss / Policy loss"][-1])
    assert policy.value_loss == pytest.approx(agent.tracking_data["Loss / Value loss"][-1] / 2.5 / 2)
    assert policy.entropy_coefficient == 0.01
    returns, values = (agent.memory.get_tensor_by_name(name).double() for name in ("returns", "values"))
    assert policy.explained_variance == pytest.approx(
        1 - ((returns - values).var() / returns.var()).item(), rel=1e-5
    )
    assert (snapshot.learning_rate, snapshot.environment_steps) == (0.02, STEPS)
    assert snapshot.episodes == ENVIRONMENTS * (ROLLOUTS // 7)
    assert snapshot.episode_return == pytest.approx(np.mean(agent._track_rewards))
    assert snapshot.episode_length == 7.0


def test_the_last_hundred_episodes_count(monkeypatch, tmp_path):
    """Whenever the agent writes its tracking data, it forgets them."""
    env = environment()
    # Three end between the last writing and the last update.
    written = {"write_interval": 50, "checkpoint_interval": 0, "directory": str(tmp_path)}
    agent = make_agent(env, experiment=written)
    finished, rewards = [], []

    def recording(**transition):
        rewards.append(transition["rewards"].flatten().clone())
        if transition["terminated"].any():
            finished.extend(torch.stack(rewards).sum(0).tolist())
            rewards.clear()
        original(**transition)

    original = agent.record_transition
    monkeypatch.setattr(agent, "record_transition", recording)
    snapshot = measured(env, agent, 16 * ROLLOUTS)
    assert len(finished) == snapshot.episodes > 100
    assert snapshot.episode_return == pytest.approx(np.mean(finished[-100:]))
    assert snapshot.episode_return != pytest.approx(np.mean(finished))
    assert snapshot.episode_length == 7.0


def test_updates_are_told_apart(monkeypatch):
    env = environment()
    agent = make_agent(env)
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent, 3 * ROLLOUTS)
    assert snapshot.tamiyo.updates == sum(snapshot.update_durations.counts) == 3
    assert sum(snapshot.rollout_durations.counts) == 2
    assert (snapshot.environment_steps, snapshot.episodes) == (3 * STEPS, ENVIRONMENTS * (3 * ROLLOUTS // 7))
    for head, reading in enumerate(snapshot.tamiyo.readings.values()):
        expected = head_numbers(witness.whole(), head, masked=False)["entropy"]  # of the last update
        assert reading.entropy == pytest.approx(expected, **CLOSE)
        assert reading.gradient_norm == pytest.approx(np.mean(witness.norms, 0)[head], **CLOSE)


def test_divergence_cuts_epochs_short(monkeypatch):
    """skrl leaves the epoch and begins the next one: whole epochs count, parts do not."""
    env = environment()
    agent = make_agent(env, learning_epochs=4, learning_rate=0.05, kl_threshold=0.05)
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    whole = [epoch for epoch in witness.whole() if len(epoch.actions) == STEPS]
    assert len(witness.whole()) == 4
    assert 1 <= len(whole) < 4
    for head, reading in enumerate(snapshot.tamiyo.readings.values()):
        expected = head_numbers(whole, head, masked=False)
        assert reading.entropy == pytest.approx(expected["entropy"], **CLOSE)
        assert reading.state_information == pytest.approx(expected["state_information"], **CLOSE)
    assert snapshot.tamiyo.kl_divergence == pytest.approx(divergence(witness.whole()), **CLOSE)
    # The agent divides what three minibatches added by all twelve.
    tracked = agent.tracking_data["Loss / Policy loss"][-1]
    assert snapshot.tamiyo.policy_loss == pytest.approx(tracked * 12 / len(witness.norms))
    assert len(witness.norms) < 12


def test_without_a_whole_epoch_the_longest_part_is_measured(monkeypatch):
    env = environment()
    agent = make_agent(env, learning_rate=0.5, kl_threshold=1e-3)
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    longest = max(witness.whole(), key=lambda epoch: len(epoch.actions))
    assert len(longest.actions) == 2 * STEPS // 3
    for head, reading in enumerate(snapshot.tamiyo.readings.values()):
        expected = head_numbers([longest], head, masked=False)["entropy"]
        assert reading.entropy == pytest.approx(expected, **CLOSE)


def test_gradients_without_clipping(monkeypatch):
    env = environment()
    agent = make_agent(env, grad_norm_clip=0.0)
    witness = Witness(agent, SIZES, monkeypatch)
    step = agent.optimizer.step

    def stepping(*arguments, **options):
        witness.norms.append(witness.head_norms())
        return step(*arguments, **options)

    monkeypatch.setattr(agent.optimizer, "step", stepping)
    assert_heads(measured(env, agent), witness.whole(), witness.norms)


def test_scaled_gradients_are_measured_without_their_scale(monkeypatch):
    env = environment()
    agent = make_agent(env)
    agent.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    assert len(witness.norms) == 6
    assert_heads(snapshot, witness.whole(), witness.norms)


def test_preprocessors_and_schedulers(monkeypatch):
    env = environment()
    agent = make_agent(
        env,
        observation_preprocessor=RunningStandardScaler,
        observation_preprocessor_kwargs={"size": env.observation_space},
        value_preprocessor=RunningStandardScaler,
        value_preprocessor_kwargs={"size": 1},
        learning_rate_scheduler=KLAdaptiveLR,
        learning_rate_scheduler_kwargs={"kl_threshold": 1e-4},
    )
    witness = Witness(agent, SIZES, monkeypatch)
    snapshot = measured(env, agent)
    assert_heads(snapshot, witness.whole(), witness.norms)
    assert snapshot.learning_rate == 0.02 != agent.optimizer.param_groups[0]["lr"]
    assert snapshot.tamiyo.explained_variance is None
