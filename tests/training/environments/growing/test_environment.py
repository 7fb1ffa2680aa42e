"""The environment in its single and its vector form, and the processes behind the vector."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from benchmarks.growing_baselines import always_wait, follow, returns, uniform_random
from benchmarks.growing_scripts import BEST_SCRIPT
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.action_space import CONSULTED_HEADS, HEAD_NAMES, OPERATIONS_TABLE, SIZES, Blueprint, Operation
from rl_training.algorithm.collector import step_masks
from rl_training.environments.adapter import make_environment
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.host import GrowingNetwork, Score
from rl_training.environments.growing.lifecycle import Stage
from tests.support.playing import SMALL, random_actions, same

WAIT = np.zeros(len(HEAD_NAMES), dtype=np.int64)


def action(operation, slot=0, blueprint=Blueprint.LORA):
    return np.array([operation, slot, blueprint, 0, 0, 2, 0, 0])


def test_gymnasium_accepts_the_single_form():
    check_env(GrowingNetworkEnv(**SMALL), skip_render_check=True)


def played(env, seed, steps=14):
    """Observations, rewards and masks of random play."""
    rng = np.random.default_rng(1)
    trajectory = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        masks = env.action_masks()
        observation, reward, over, _, info = env.step(random_actions(masks[None], rng)[0])
        assert set(info) == ({"metrics", "drawing"} if over else set())
        trajectory += [observation, np.float64(reward), masks]
        if over:
            trajectory.append(env.reset()[0])
    return trajectory


def test_same_seed_same_trajectory():
    one, again, other = (played(GrowingNetworkEnv(**SMALL), seed) for seed in (3, 3, 4))
    assert same(one, again)
    assert not same(one, other)


def test_observations_stay_inside_their_space():
    env = GrowingNetworkEnv(**SMALL)
    for part in played(env, 0, steps=60):
        if part.dtype == np.float32:
            assert env.observation_space.contains(part)


def test_the_reward_is_gain_less_rent():
    env = GrowingNetworkEnv(**{**SMALL, "rent": 0.01, "reward_scale": 10.0})
    env.reset(seed=0)
    before = env.accuracy
    _, reward, _, _, _ = env.step(action(Operation.GERMINATE, blueprint=Blueprint.MLP))
    parameters, host = 8 * 32 + 32 + 32 * 8 + 8, (9 * 8 + 8) + 2 * (8 * 8 + 8) + (8 * 10 + 10)
    assert reward == pytest.approx(10 * (env.accuracy - before - 0.01 * parameters / host))
    assert env.slots[0].stage is Stage.GERMINATED


def test_an_episode_ends_after_its_steps_as_a_termination():
    env = GrowingNetworkEnv(**SMALL)
    first, _ = env.reset(seed=0)
    ends = [env.step(WAIT)[2:4] for _ in range(6)]
    assert ends == [(False, False)] * 5 + [(True, False)]
    assert first[0] == 0.0


def test_an_episode_ends_when_every_slot_is_fossilized():
    env = GrowingNetworkEnv(**{**SMALL, "episode_steps": 50})
    env.reset(seed=0)
    plan = [Operation.GERMINATE, *[Operation.ADVANCE] * 3, Operation.FOSSILIZE]
    ends = [env.step(action(operation, slot))[2] for slot in range(3) for operation in plan]
    assert ends == [False] * 14 + [True]


def test_an_action_that_the_masks_forbid_waits_and_says_so():
    env, twin = GrowingNetworkEnv(**SMALL), GrowingNetworkEnv(**SMALL)
    env.reset(seed=0)
    twin.reset(seed=0)
    observation, reward, _, _, info = env.step(action(Operation.PRUNE))
    assert "PRUNE is not possible on slot R0C0 in stage DORMANT" in info["illegal"]
    waited = twin.step(WAIT)
    assert np.array_equal(observation, waited[0])
    assert reward == waited[1]


def test_the_trainer_finds_heads_masks_and_who_consults_whom():
    env = make_environment("growing-network", 2, {**SMALL, "workers": 0})
    env.reset(0)
    assert env.heads.names == HEAD_NAMES
    assert env.masks().shape == (2, 6, 41)
    assert [set(np.array(HEAD_NAMES)[row]) for row in env.consulted] == [
        set(h) for h in CONSULTED_HEADS.values()
    ]


@pytest.mark.slow
def test_the_best_script_beats_always_waiting():
    env = GrowingNetworkEnv()
    grown, waited = (returns(policy, env, range(10)) for policy in (follow(BEST_SCRIPT), always_wait))
    assert np.mean(grown) > np.mean(waited) + 0.5
    assert sum(g > w for g, w in zip(grown, waited, strict=True)) >= 8


def test_random_play_gives_every_head_something_to_choose(monkeypatch):
    """The shares of docs/environment.md, on a short form: the life cycle decides them, not the training."""
    monkeypatch.setattr(GrowingNetwork, "train_epoch", lambda *_: 0.0)
    monkeypatch.setattr(GrowingNetwork, "validate", lambda *_: Score(2.3, 0.1))
    env = GrowingNetworkEnv(**{**SMALL, "episode_steps": 28})
    policy = uniform_random(np.random.default_rng(0))
    env.reset(seed=0)
    masks, operations = [], []
    for _ in range(600):
        action = policy(env, 0)
        masks.append(env.action_masks())
        operations.append(action[0])
        if env.step(action)[2]:
            env.reset()
    layout = HeadLayout(HEAD_NAMES, SIZES)
    share = step_masks(np.stack(masks), np.array(operations), layout, OPERATIONS_TABLE).choice.mean(0)
    assert (share > 0.05).all()
    assert share[0] > 0.9
