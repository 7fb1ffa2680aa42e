"""The numbers of HeadEntropyCallback with real PPO, A2C and MaskablePPO, against NumPy."""

import urllib.request
from itertools import pairwise

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO

from rl_exporter import HeadState, RunState
from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.support.reporting_environment import Reporting
from tests.support.sb3_reach import Reach, head_entropies, policy_logits, random_masks, split

SIZES = (4, 2, 6)
NAMES = ["gripper", "valve", "arm"]


def ppo(environment=None, kind=PPO, **options):
    defaults = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu"}
    if kind is A2C:
        defaults = {"n_steps": 8, "seed": 3, "device": "cpu"}
    return kind("MlpPolicy", environment or Reach(SIZES, NAMES), **(defaults | options))


def masked(sizes=SIZES, masks=random_masks, **options):
    return ppo(Reach(sizes, NAMES[: len(sizes)], masks), MaskablePPO, **options)


def sharpen(model):
    """Give the heads different entropies: a fresh policy is uniform to three digits."""
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)
    return model


def learned(model, updates=1, **options):
    callback = HeadEntropyCallback("test", **({"listen": "127.0.0.1:0", "linger": 0} | options))
    model.learn(updates * model.n_steps * model.n_envs, callback=callback)
    return callback.recorder.snapshot()


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
    """Gradient norm of each head at each optimiser step, as it is handed to the clipping."""

    def record(model):
        norms = []
        original = torch.nn.utils.clip_grad_norm_

        def clip(parameters, limit):
            layer = model.policy.action_net
            rows = np.concatenate([layer.weight.grad.numpy(), layer.bias.grad.numpy()[:, None]], 1)
            norms.append([np.linalg.norm(part) for part in split(rows.T, SIZES)])
            return original(parameters, limit)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        return norms

    return record


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


def test_masked_entropies_choices_and_shares():
    model = sharpen(masked(learning_rate=0.0))
    readings = learned(model).tamiyo.readings
    buffer = model.rollout_buffer
    logits = policy_logits(model.policy, buffer.observations)
    entropies = head_entropies(logits, SIZES, buffer.action_masks)
    masks = buffer.action_masks.reshape(logits.shape)
    valid = np.stack([part.sum(1) for part in split(masks, SIZES)], 1)
    for index, name in enumerate(NAMES[:2]):
        choosing = valid[:, index] >= 2
        ratios = entropies[choosing, index] / np.log(valid[choosing, index])
        reading = readings[name]
        assert reading.entropy == pytest.approx(entropies[:, index].mean(), abs=1e-6)
        assert reading.choice_entropy == pytest.approx(ratios.mean(), abs=1e-6)
        assert reading.choice_share == reading.open_share == choosing.mean()
        assert 0.0 < reading.choice_share < 1.0


def test_a_head_without_any_choice_is_not_called_collapsed():
    snapshot = learned(masked(), updates=3)
    arm = snapshot.tamiyo.readings["arm"]
    assert (arm.entropy, arm.choice_share, arm.open_share) == (0.0, 0.0, 0.0)
    assert arm.choice_entropy is arm.effective is arm.level is None
    assert arm.state is HeadState.DETERMINISTIC
    assert arm.critical_streak is None
    assert snapshot.record_errors == 0


def test_an_unmasked_policy_reports_no_choice():
    readings = learned(ppo()).tamiyo.readings
    assert {(r.choice_share, r.open_share, r.choice_entropy) for r in readings.values()} == {(None,) * 3}
    assert readings["arm"].effective == readings["arm"].normalized


def test_a_mask_that_allows_nothing_is_counted_and_not_shown(caplog):
    def masks(generator, sizes):
        allowed = random_masks(generator, sizes)
        allowed[4:6] &= generator.random() < 0.5
        return allowed

    snapshot = learned(masked(masks=masks), updates=3)
    assert not snapshot.tamiyo.readings["valve"].measured
    assert snapshot.tamiyo.readings["gripper"].measured_update == 3
    assert snapshot.record_errors == 3
    (record,) = caplog.records
    assert "head 'valve': its mask allows no action" in record.message


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


def test_what_the_model_logs_is_taken_over():
    model = ppo()
    snapshot = learned(model, updates=3)
    logged = model.logger.name_to_value
    tamiyo = snapshot.tamiyo
    assert tamiyo.kl_divergence == pytest.approx(logged["train/approx_kl"])
    assert tamiyo.clipped_share == logged["train/clip_fraction"]
    assert tamiyo.policy_loss == logged["train/policy_gradient_loss"]
    assert tamiyo.value_loss == logged["train/value_loss"] / 2, "half the squared error, as in the trainer"
    assert tamiyo.explained_variance == pytest.approx(logged["train/explained_variance"])
    assert tamiyo.entropy_coefficient == model.ent_coef
    assert snapshot.episode_return == np.mean([episode["r"] for episode in model.ep_info_buffer])
    assert snapshot.episode_length == np.mean([episode["l"] for episode in model.ep_info_buffer])
    assert snapshot.environment_metrics == ()
    assert (snapshot.environment_steps, snapshot.episodes) == (96, 19)
    assert sum(snapshot.update_durations.counts) == sum(snapshot.rollout_durations.counts) == 3
    assert 0 < snapshot.update_durations.sum < 60
    run = snapshot.run
    assert (run.run_id, run.algorithm, run.seed, run.device) == ("test", "PPO", "3", "cpu")


def test_what_environments_report_is_taken_over():
    snapshot = learned(ppo(Reporting(bad=True)), updates=2)  # episodes of two steps
    assert {number.series.key: number.value for number in snapshot.environment_metrics} == {
        "steps": 2.0,
        'copies_ratio{copy="0"}': 1.0,
    }
    assert snapshot.record_errors == 0


def test_a2c_logs_other_names():
    model = ppo(kind=A2C)
    tamiyo = learned(model, updates=5).tamiyo
    assert tamiyo.policy_loss == model.logger.name_to_value["train/policy_loss"]
    assert tamiyo.kl_divergence is tamiyo.clipped_share is None
    assert tamiyo.updates == 5


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


def test_every_update_is_served_while_the_model_learns():
    bodies = []
    callback = HeadEntropyCallback("live", listen="127.0.0.1:0", linger=0, experiment="tests")

    def scrape(_locals, _globals):
        url = callback.recorder.url + "/metrics"
        bodies.append(urllib.request.urlopen(url, timeout=10).read().decode())

    model = ppo()
    model.learn(96, callback=[callback, _on_rollout_start(scrape)])
    assert "rl_policy_head_entropy_nats{" not in bodies[0]
    updates = [body.split('rl_training_updates_total{run_id="live"} ')[1].split("\n")[0] for body in bodies]
    assert [float(one) + 1 for one, _ in pairwise(updates)] == [float(other) for _, other in pairwise(updates)]
    assert 'rl_policy_head_entropy_nats{head="arm",run_id="live"}' in bodies[-1]
    assert 'rl_training_run_state{run_id="live",state="running"} 1' in bodies[-1]
    assert callback.recorder.snapshot().run_state is RunState.COMPLETED


def _on_rollout_start(function):
    from stable_baselines3.common.callbacks import BaseCallback

    class Call(BaseCallback):
        def _on_rollout_start(self):
            function(self.locals, self.globals)

        def _on_step(self):
            return True

    return Call()
