"""Entropies and gradient norms of HeadEntropyCallback with real PPO, A2C and MaskablePPO, against NumPy. Learning is the same."""

from functools import partial

import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C

from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.exporter.integrations.sb3.learning import NAMES, SIZES, learned, masked, norms_of, ppo, sharpen
from tests.support.sb3_reach import Reach, head_entropies, policy_logits


@pytest.fixture
def evaluated(monkeypatch):
    """Minibatches of logits as the loss saw them: call it with a model, then let it learn.

    From minibatch ``abort_at`` on, the policy seems to have moved far: KL divergence ends the update.
    """

    def record(model, abort_at=None):
        minibatches = []
        original = model.policy.evaluate_actions

        def evaluate(observations, *arguments, **keywords):
            minibatches.append(policy_logits(model.policy, observations))
            values, log_prob, entropy = original(observations, *arguments, **keywords)
            return values, log_prob + 10.0 * (len(minibatches) == abort_at), entropy

        monkeypatch.setattr(model.policy, "evaluate_actions", evaluate)
        return minibatches

    return record


@pytest.fixture
def raw_norms(monkeypatch):
    """Gradient norm of each head at each optimiser step of a model."""
    return partial(norms_of, monkeypatch=monkeypatch)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_entropies_are_means_over_every_step_of_the_rollout():
    model = sharpen(ppo(learning_rate=0.0, batch_size=24))
    readings = learned(model).tamiyo.readings
    each_step = head_entropies(policy_logits(model.policy, model.rollout_buffer.observations), SIZES)
    measured = [readings[name].entropy for name in NAMES]
    assert measured == pytest.approx(each_step.mean(0), abs=1e-6)
    assert max(measured) - min(measured) > 0.1
    # 24 and 8 steps: what the model logs is a mean of means, so this test could tell the two apart.
    assert abs(-model.logger.name_to_value["train/entropy_loss"] - sum(measured)) > 1e-4


def test_entropies_follow_the_policy_from_epoch_to_epoch(evaluated):
    model = sharpen(ppo(learning_rate=0.05, batch_size=8))
    minibatches = evaluated(model)
    readings = learned(model).tamiyo.readings
    epochs = [np.concatenate(minibatches[at : at + 4]) for at in range(0, 12, 4)]
    means = np.stack([head_entropies(epoch, SIZES).mean(0) for epoch in epochs])
    assert [readings[name].entropy for name in NAMES] == pytest.approx(means.mean(0), abs=1e-6)
    assert np.ptp(means, 0).min() > 1e-3


def test_the_heads_add_up_to_what_the_model_logs():
    model = sharpen(ppo(learning_rate=0.01))
    snapshot = learned(model, updates=4)
    assert snapshot.tamiyo.updates == 4
    assert snapshot.tamiyo.entropy == pytest.approx(-model.logger.name_to_value["train/entropy_loss"], abs=1e-6)


def test_an_epoch_cut_short_counts_nowhere(evaluated):
    model = sharpen(ppo(learning_rate=0.01, batch_size=8, target_kl=1e3))
    minibatches = evaluated(model, abort_at=10)
    snapshot = learned(model)
    assert len(minibatches) == 10
    epochs = [np.concatenate(minibatches[at : at + 4]) for at in (0, 4)]
    expected = np.mean([head_entropies(epoch, SIZES).mean(0) for epoch in epochs], 0)
    assert [snapshot.tamiyo.readings[name].entropy for name in NAMES] == pytest.approx(expected, abs=1e-6)
    everything = head_entropies(np.concatenate(minibatches), SIZES).mean(0)
    assert np.abs(everything - expected).max() > 1e-4
    assert snapshot.record_errors == 0


def test_without_a_whole_epoch_the_visited_steps_are_measured(evaluated, raw_norms):
    model = sharpen(ppo(batch_size=8, target_kl=1e3))
    minibatches, norms = evaluated(model, abort_at=3), raw_norms(model)
    snapshot = learned(model)
    assert len(minibatches) == 3
    assert len(norms) == 2
    readings = snapshot.tamiyo.readings
    expected = head_entropies(np.concatenate(minibatches), SIZES).mean(0)
    assert [readings[name].entropy for name in NAMES] == pytest.approx(expected, abs=1e-6)
    assert [readings[name].gradient_norm for name in NAMES] == pytest.approx(np.mean(norms, 0), rel=1e-5)
    assert snapshot.record_errors == 0


def test_gradient_norms_are_those_before_clipping(raw_norms):
    model = sharpen(ppo(max_grad_norm=1e-3, batch_size=8))
    norms = raw_norms(model)
    readings = learned(model).tamiyo.readings
    assert len(norms) == 12
    assert [readings[name].gradient_norm for name in NAMES] == pytest.approx(np.mean(norms, 0), rel=1e-5)
    assert np.mean(norms, 0).min() > 1e-2


def test_gradient_norms_of_an_epoch_cut_short_count_nowhere(evaluated, raw_norms):
    model = sharpen(ppo(batch_size=8, target_kl=1e3))
    evaluated(model, abort_at=7)
    norms = raw_norms(model)
    readings = learned(model).tamiyo.readings
    assert len(norms) == 6
    assert [readings[name].gradient_norm for name in NAMES] == pytest.approx(np.mean(norms[:4], 0), rel=1e-5)


@pytest.mark.parametrize("build", [
    lambda: ppo(Reach(5)),
    lambda: ppo(Reach(5), A2C),
    lambda: ppo(Reach(5, masks=lambda generator, sizes: generator.random(5) < [2, 0.5, 0.5, 0.5, 0.5]), MaskablePPO),
])  # fmt: skip
def test_a_discrete_space_is_one_head(build):
    model = sharpen(build())
    model.learning_rate = 0.0
    model.lr_schedule = lambda _: 0.0
    snapshot = learned(model)
    buffer = model.rollout_buffer
    entropies = head_entropies(
        policy_logits(model.policy, buffer.observations), [5], getattr(buffer, "action_masks", None)
    )
    assert snapshot.tamiyo.head_action_entropy == pytest.approx(entropies.mean(), abs=1e-6)
    assert snapshot.tamiyo.entropy == pytest.approx(-model.logger.name_to_value["train/entropy_loss"], abs=1e-6)
    assert (snapshot.tamiyo.readings["action"].choice_share is None) is not isinstance(model, MaskablePPO)


@pytest.mark.parametrize("build", [ppo, masked])
def test_learning_is_the_same_with_and_without(build):
    forward_passes, parameters = [], []
    for callback in (None, HeadEntropyCallback(listen="127.0.0.1:0", linger=0)):
        model, passes = build(), []
        for module in (model.policy.action_net, model.policy.mlp_extractor):
            module.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        model.learn(96, callback=callback)
        forward_passes.append(len(passes))
        parameters.append(model.policy.parameters_to_vector())
    assert forward_passes[0] == forward_passes[1] > 0
    assert np.array_equal(*parameters)
