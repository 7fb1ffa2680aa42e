"""Environments of other libraries, which lack what Stable-Baselines3's own ones have."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnvWrapper

from rl_exporter.integrations.sb3 import HeadEntropyCallback

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The `render_mode` attribute")]

COPIES = 3


class Batched(gymnasium.Env):
    """Steps all copies at once, as EnvPool does: a Gymnasium environment and no VecEnv."""

    num_envs, render_mode = COPIES, None
    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.MultiDiscrete([3, 2])

    def reset(self):
        self.steps = 0
        return np.zeros((COPIES, 2), np.float32)

    def step(self, actions):
        self.steps += 1
        infos = [{"terminal_observation": np.zeros(2, np.float32)} for _ in range(COPIES)]
        return np.zeros((COPIES, 2), np.float32), np.zeros(COPIES), np.full(COPIES, self.steps % 8 == 0), infos


class Adapter(VecEnvWrapper):
    def step_async(self, actions):
        self.actions = actions

    def step_wait(self):
        return self.venv.step(self.actions)

    def reset(self):
        return self.venv.reset()

    def seed(self, seed=None):
        return None


class Answering(Adapter):
    """Answers every question about an attribute with one of these."""

    answer = AttributeError

    def has_attr(self, name):
        return self._answered()

    def get_attr(self, name, indices=None):
        return self._answered()

    @property
    def unwrapped(self):
        return self._answered()

    def _answered(self):
        if isinstance(self.answer, type):
            raise self.answer("no such attribute")
        return self.answer


def learned(env, caplog):
    callback = HeadEntropyCallback("adapter", listen="127.0.0.1:0", linger=0)
    PPO("MlpPolicy", env, n_steps=8, batch_size=24, n_epochs=1, device="cpu").learn(48, callback=callback)
    snapshot = callback.recorder.snapshot()
    assert snapshot.record_errors == 0
    assert snapshot.run.environment == ""
    assert all(reading.measured for reading in snapshot.tamiyo.readings.values())
    assert snapshot.tamiyo.explained_variance is None, "returns that do not vary have none"
    assert [record.getMessage() for record in caplog.records] == []
    return snapshot.tamiyo.heads.names


def test_an_adapter_without_any_attribute_trains_and_is_measured(caplog):
    assert learned(Adapter(Batched()), caplog) == ("head_0", "head_1")


@pytest.mark.parametrize("answer", [True, 7, AttributeError, NotImplementedError, RuntimeError])
def test_nothing_that_an_adapter_answers_ends_the_training(answer, caplog):
    env = Answering(Batched())
    env.answer = answer
    assert learned(env, caplog) == ("head_0", "head_1")
