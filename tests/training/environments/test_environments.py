import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl_training.action_space import OFFSETS, SIZES
from rl_training.environments.adapter import EnvironmentSetupError, TrainingEnvironment, make_environment
from rl_training.environments.heads.environment import HeadsEnv, HeadsVectorEnv
from rl_training.environments.heads.rewards import HeadsOptions, good_actions
from tests.support.playing import random_actions


@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")
@pytest.mark.parametrize("consult", ["all", "table"])
def test_gymnasium_accepts_the_single_form(consult):
    check_env(HeadsEnv(consult=consult, noise=2, delay=1), skip_render_check=True)


@pytest.mark.parametrize("options", [{}, {"consult": "table", "noise": 3, "delay": 1}])
def test_single_and_vector_form_give_the_same_numbers(options):
    vector = HeadsVectorEnv(3, **options)
    singles = [HeadsEnv(**options) for _ in range(3)]
    first, _ = vector.reset(seed=5)
    assert np.array_equal(first, [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)])
    generator = np.random.default_rng(0)
    for _ in range(300):
        masks = vector.action_masks()
        assert np.array_equal(masks, [env.action_masks() for env in singles])
        actions = random_actions(masks, generator)
        observations, rewards, _, truncated, infos = vector.step(actions)
        for index, env in enumerate(singles):
            observation, reward, _, over, _ = env.step(actions[index])
            assert reward == rewards[index]
            assert over == truncated[index]
            if over:
                assert np.array_equal(observation, infos["final_obs"][index])
                observation = env.reset()[0]
            assert np.array_equal(observation, observations[index])


@pytest.mark.parametrize(
    "options", [{}, {"consult": "table"}, {"paid_head": "blueprint", "single_action": True}]
)
def test_the_uniform_return_is_exact(options):
    env = HeadsVectorEnv(8, **options)
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    steps = 8000
    total = sum(env.step(random_actions(env.action_masks(), generator))[1].mean() for _ in range(steps))
    assert total / steps * 16 == pytest.approx(env.uniform_return, rel=0.025)


def test_a_good_action_is_always_valid_and_about_half_are_good():
    good = good_actions(HeadsOptions())
    assert (np.add.reduceat(good, OFFSETS, axis=1, dtype=int) == [max(1, n // 2) for n in SIZES]).all()
    env = HeadsVectorEnv(4)
    shown, _ = env.reset(seed=1)
    for _ in range(200):
        hits = env.action_masks() & good[shown.argmax(1)]
        assert (np.add.reduceat(hits, OFFSETS, axis=1, dtype=int) >= 1).all()
        shown = env.step(np.zeros((4, 8), dtype=np.int64))[0]


def test_delay_needs_memory():
    env, twin = HeadsVectorEnv(1, delay=1), HeadsVectorEnv(1)
    shown = [env.reset(seed=3)[0]]
    twin.reset(seed=3)
    good = good_actions(HeadsOptions())
    for step in range(1, 16):
        shown.append(env.step(np.zeros((1, 8), dtype=np.int64))[0])
        previous = int(shown[step - 1].argmax())
        hits = env.action_masks()[0] & good[previous]
        assert (np.add.reduceat(hits, OFFSETS, dtype=int) >= 1).all()


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
