"""The environment of tables: its single and its vector form, its return, its rewards."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl_training.action_space import OFFSETS, SIZES
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
    "options",
    [
        {},
        {"consult": "table"},
        {"paid_head": "blueprint", "single_action": True},
        {"paid_head": "blueprint", "safe_pay": 0.6},
    ],
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


def test_the_safe_action_pays_its_part_in_every_context_and_another_one_pays_all():
    env = HeadsVectorEnv(4, paid_head="blueprint", safe_pay=0.6, contexts=3)
    shown, _ = env.reset(seed=2)
    for step in range(100):
        actions = np.zeros((4, 8), dtype=np.int64)
        right = 1 + shown.argmax(1)
        actions[:, 2] = 0 if step % 2 else right
        masks = env.action_masks()
        assert masks[:, OFFSETS[2]].all()
        assert masks[range(4), OFFSETS[2] + right].all()
        shown, rewards, *_ = env.step(actions)
        assert rewards == pytest.approx(0.6 if step % 2 else 1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"safe_pay": 0.5},
        {"safe_pay": 1.0, "paid_head": "style"},
        {"safe_pay": 0.5, "paid_head": "style", "consult": "table"},
    ],
)
def test_a_safe_action_that_is_not_possible_is_refused(options):
    with pytest.raises(ValueError, match=r"heads environment: safe_pay=.* is not possible; give a"):
        HeadsVectorEnv(1, **options)
