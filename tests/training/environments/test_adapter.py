"""Any Gymnasium environment as the trainer sees it, and what is said of one that it cannot take."""

import gymnasium
import numpy as np
import pytest

from rl_training.environments.adapter import EnvironmentSetupError, TrainingEnvironment, make_environment


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("NoSuch-v0", {}, "cannot be made"),
        ("Pendulum-v1", {}, "MultiDiscrete or Discrete"),
        ("heads", {"delay": 2}, "delay=2"),
        ("heads", {"paid_head": "arm"}, "paid_head='arm'"),
        ("heads", {"nonsense": 1}, "nonsense"),
    ],
)
def test_bad_environments_are_named(name, arguments, reason):
    with pytest.raises(EnvironmentSetupError, match=reason):
        make_environment(name, 2, arguments)


class Terminating(gymnasium.Env):
    """Ends after three steps; observation counts them; masks forbid action 0."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action.all()
        self.count += 1
        return np.full(1, self.count, np.float32), 1.0, self.count == 3, False, {}

    def action_masks(self):
        return np.array([False, True, False, True, True])


def test_any_gymnasium_environment_with_masks_is_stepped_without_dummy_steps():
    gymnasium.register("rl-test/Terminating-v0", Terminating, disable_env_checker=True)
    try:
        env = make_environment("rl-test/Terminating-v0", 2, {})
    finally:
        gymnasium.registry.pop("rl-test/Terminating-v0")
    assert env.heads.names == ("head_0", "head_1")
    assert isinstance(env, TrainingEnvironment)
    env.reset(0)
    assert env.masks().shape == (2, 1, 5)
    for expected in (1, 2, 0, 1, 2, 0):
        observations, rewards, terminated, _, final = env.step(np.ones((2, 2), dtype=np.int64))
        assert (observations == expected).all()
        assert (rewards == 1).all()
        assert (terminated == (expected == 0)).all()
        assert (final == (expected or 3)).all()
