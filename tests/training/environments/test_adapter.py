"""Any Gymnasium environment as the trainer sees it, and what is said of one that it cannot take."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_training.environments.adapter import TrainingEnvironment, make_environment
from rl_training.environments.declared import EnvironmentSetupError


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

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.MultiDiscrete([2, 3])

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


class Masked(gymnasium.Wrapper):
    """Gives a four-action environment masks and names, as an action masker does."""

    masks = (True, False, False, True)
    head_names = ("turn",)

    def action_masks(self):
        return np.array(self.masks)


class Plain(gymnasium.Env):
    observation_space, action_space = spaces.Box(-1, 1, (3,), np.float32), spaces.MultiDiscrete([4])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


def wrapped(masks, times=1):
    def make():
        env = Masked(Plain())
        env.masks = masks
        for _ in range(times):
            env = gymnasium.wrappers.TimeLimit(env, 9)
        return env

    name = f"Wrapped{abs(hash(str(masks)))}x{times}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, entry_point=make)
    return name


@pytest.mark.parametrize("times", [0, 2])
def test_masks_and_names_of_a_wrapper_are_used(times):
    environment = make_environment(wrapped((1, 0, 0, 1), times), 2, {})
    environment.reset(0)
    assert environment.masks().tolist() == [[[True, False, False, True]]] * 2
    assert environment.heads.names == ("turn",)


@pytest.mark.parametrize(
    ("masks", "what"),
    [
        ((True, False, True), "bool of shape (3,)"),
        ((0.5, 1.0, 0.0, 1.0), "float64 of shape (4,)"),
        (("yes", "no", "no", "no"), "<U3 of shape (4,)"),
        (((True,) * 4,) * 3, "bool of shape (3, 4)"),
    ],
)
def test_masks_that_do_not_fit_are_one_line_before_training(masks, what):
    with pytest.raises(EnvironmentSetupError) as error:
        make_environment(wrapped(masks), 2, {})
    assert str(error.value).startswith("environment 'Wrapped")
    assert f"action_masks() returned {what}; return booleans of shape (4,) or (4, 4)" in str(error.value)
    assert "\n" not in str(error.value)


class Learner(Plain):
    """Trains a network of its own in each step."""

    def __init__(self):
        self.network = torch.nn.Linear(3, 1)

    def step(self, action):
        self.network(torch.ones(3)).backward()
        return super().step(action)


def test_an_environment_may_train_a_network_of_its_own():
    gymnasium.register("Learner-v0", entry_point=Learner)
    environment = make_environment("Learner-v0", 1, {})
    with torch.inference_mode():  # as the rollout collector steps it
        environment.reset(0)
        environment.step(np.zeros((1, 1), np.int64))
    assert environment.vector.envs[0].unwrapped.network.weight.grad is not None
