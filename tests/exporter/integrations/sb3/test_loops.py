"""HeadEntropyCallback in the ways in which people use Stable-Baselines3."""

import numpy as np
import pytest
import torch
from gymnasium import Env, spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.logger import KVWriter, Logger

from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.support.sb3_reach import OPTIONS, Reach, head_entropies, local, policy_logits
from tests.support.sb3_reach import small_ppo as ppo

pytestmark = pytest.mark.slow


def test_a_compiled_loss_without_graph_breaks_is_measured():
    """Stable-Baselines3 users compile ``evaluate_actions``; pytorch#173452 and stable-baselines3#1391 tell of taps."""
    snapshots = []
    for compiled in (False, True):
        # One head: with several, Stable-Baselines3 itself does not compile.
        model, callback = ppo(Reach(5)), local()
        if compiled:
            torch._dynamo.reset()
            model.policy.evaluate_actions = torch.compile(
                model.policy.evaluate_actions, backend="aot_eager", fullgraph=True
            )
        model.learn(32, callback=callback)
        snapshots.append(callback.recorder.snapshot())
    eager, traced = snapshots
    assert eager.record_errors == traced.record_errors == 0
    for name, reading in eager.tamiyo.readings.items():
        assert reading.measured
        other = traced.tamiyo.readings[name]
        assert other.entropy == pytest.approx(reading.entropy, abs=1e-6)
        assert other.gradient_norm == pytest.approx(reading.gradient_norm, rel=1e-4)


class Switches(Env):
    """Three switches, of which each is on or off."""

    observation_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
    action_space = spaces.MultiBinary(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action):
        self._steps += 1
        return self._observation(), float(action[0]), self._steps == 8, False, {}

    def _observation(self):
        return self.np_random.uniform(-1.0, 1.0, 4).astype(np.float32)


def test_bits_are_heads_of_two():
    model = PPO("MlpPolicy", Switches(), **{**OPTIONS, "learning_rate": 0.0})
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)
    callback = HeadEntropyCallback("bits", listen="127.0.0.1:0", linger=0)
    model.learn(16, callback=callback)
    snapshot = callback.recorder.snapshot()
    logits = policy_logits(model.policy, model.rollout_buffer.observations)
    pairs = np.stack([np.zeros_like(logits), logits], -1).reshape(len(logits), -1)
    expected = head_entropies(pairs, (2, 2, 2)).mean(0)
    readings = snapshot.tamiyo.readings
    assert [readings[f"head_{i}"].entropy for i in range(3)] == pytest.approx(expected, abs=1e-6)
    assert all(reading.gradient_norm > 0 for reading in readings.values())
    assert snapshot.record_errors == 0


class SelfMasking(torch.nn.Linear):
    """An action layer that masks all but the first action of head 0 at four steps of five, by their input."""

    def forward(self, features):
        logits = super().forward(features) * 0.0
        hidden = (
            (features[:, :1] > features[:, :1].quantile(0.2)) & (torch.arange(12) < 4) & (torch.arange(12) > 0)
        )
        return torch.where(hidden, -1e8, logits)


def test_a_policy_that_masks_its_own_logits_is_not_called_collapsed():
    model = ppo()
    model.policy.action_net = SelfMasking(64, 12)
    callback = local()
    model.learn(16, callback=callback)
    reading = callback.recorder.snapshot().tamiyo.readings["head_0"]
    assert 0 < reading.choice_share < 0.5
    assert reading.choice_entropy == pytest.approx(1.0, abs=1e-6)
    assert reading.normalized == pytest.approx(reading.choice_share, abs=1e-6)
    assert reading.level.value == "healthy"


def test_a_callback_that_hides_rollouts_is_refused():
    inside = EveryNTimesteps(8, callback=local())
    for callback in (inside, CallbackList([inside])):
        with pytest.raises(ValueError, match="inside EveryNTimesteps sees no rollouts; give learn"):
            ppo().learn(16, callback=callback)


def test_a_list_of_callbacks_in_a_list_is_measured():
    class Quiet(BaseCallback):
        def _on_step(self):
            return True

    callback = local()
    ppo().learn(16, callback=CallbackList([CallbackList([callback]), EveryNTimesteps(4, callback=Quiet())]))
    assert callback.recorder.snapshot().tamiyo.readings["head_0"].measured


class Kept(KVWriter):
    """Keeps what a logger writes."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


@pytest.mark.parametrize("log_heads", [True, False])
def test_the_logger_of_the_model_hears_of_each_head(log_heads):
    kept, model = Kept(), ppo(Reach((4, 2, 6)))
    model.set_logger(Logger(folder=None, output_formats=[kept]))
    callback = HeadEntropyCallback("log", listen="127.0.0.1:0", linger=0, log_heads=log_heads)
    model.learn(48, callback=callback)
    logged = {key: row[key] for row in kept.rows for key in row if key.startswith("heads/")}
    if not log_heads:
        assert logged == {}
        return
    reading = callback.recorder.snapshot().tamiyo.readings["head_2"]
    assert {"heads/head_2/entropy", "heads/head_0/gradient_norm"} <= set(logged)
    assert logged["heads/head_2/normalized_entropy"] == pytest.approx(reading.normalized, abs=0.05)
