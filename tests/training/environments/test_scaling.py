"""Observations beyond ±10 reach the policy: scaled by their bounds, or cut off, which the log says."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_training.environments.adapter import make_environment, make_single
from rl_training.environments.scaling import ObservationScale
from rl_training.run.cli import main
from tests.support.agents import setup
from tests.support.replays import TRAIN
from tests.support.short_environment import STEPS, Short, register

LARGEST = np.finfo(np.float32).max


def box(low, high, dtype=np.float64):
    return spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


@pytest.mark.parametrize(
    ("space", "observed", "seen"),
    [
        (spaces.Box(0, 255, (2, 2), np.uint8), [0, 51, 102, 255], [0, 0.2, 0.4, 1]),
        (box([-20, 0, -80], [10, 40, -20]), [-20, 10, -80], [-1, 0.25, -1]),
        (box([-10, 0], [10, 10.5]), [10, 10.5], [10, 1]),
        (box([-1e3, -1.1e3], [1e3, 0]), [1e3, 77], [1, 77]),
        (box([-np.inf, 0, -np.inf], [200, np.inf, np.inf]), [199, 7, 3e9], [199, 7, 3e9]),
        (box([-LARGEST, -4.8], [LARGEST, 4.8], np.float32), [7, 3], [7, 3]),
        (spaces.Box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, (1,), np.int64), [8], [8]),
        (spaces.Box(np.iinfo(np.int32).min, np.iinfo(np.int32).max, (1,), np.int32), [8], [8]),
        (spaces.Box(0, 1, (3,), np.bool_), [1, 0, 1], [1, 0, 1]),
        (spaces.Box(-1, 1, (0,), np.float32), [], []),
    ],
)
def test_numbers_whose_bounds_lie_beyond_the_limit_lie_between_the_ones(space, observed, seen):
    observed = np.array(observed, np.float32)
    given = observed.copy()
    assert ObservationScale(space).scaled(observed) == pytest.approx(seen)
    assert (observed == given).all(), "the environment's own array"


class Sensing(Short):
    """Observes numbers of many kinds."""

    observation_space = spaces.Dict(
        angle=spaces.Box(-180, 180, (1,), np.float32),
        floor=spaces.Discrete(40, start=12),
        gauge=spaces.Box(-np.inf, np.inf, (1,), np.float32),
        image=spaces.Box(0, 255, (2, 1), np.uint8),
        switches=spaces.MultiBinary(2),
    )

    def observed(self):
        return {
            "angle": np.full(1, 90, np.float32),
            "floor": 12 + self.count,
            "gauge": np.full(1, 7, np.float32),
            "image": np.full((2, 1), 51, np.uint8),
            "switches": np.ones(2, np.int8),
        }


@pytest.mark.parametrize(
    "made", [lambda name: make_environment(name, 2, {}), lambda name: make_single(name, {})]
)
def test_every_number_of_a_compound_observation_has_its_own_scale_in_training_and_replay(made):
    """The last one of an episode, too."""
    environment = made(register(Sensing))
    rest = [7, 0.2, 0.2, 1, 1]
    assert environment.reset(0) == pytest.approx(
        np.array([[0.5, *np.eye(40)[0], *rest]] * environment.num_envs)
    )
    for count in range(1, STEPS + 1):
        *_, final = environment.step(np.zeros((environment.num_envs, 2), np.int64))
        assert final[0] == pytest.approx(np.array([0.5, *np.eye(40)[count], *rest]))


class Bytes(Short):
    """Observes and pays the same as Fractions, and observes in bytes."""

    observation_space, unit = spaces.Box(0, 255, (3,), np.uint8), 255

    def observed(self):
        return (self.np_random.integers(256, size=3) * (self.unit / 255)).astype(self.observation_space.dtype)


class Fractions(Bytes):
    observation_space, unit = spaces.Box(0, 1, (3,), np.float32), 1


def test_bytes_are_learned_from_as_their_fractions_are():
    rollouts = []
    for kind in (Bytes, Fractions):
        _, agent, collector = setup(register(kind), envs=2, hidden=8)
        agent._update_network(collector.collect(8))
        rollouts.append(collector.collect(8))
    by_bytes, by_fractions = rollouts
    assert torch.allclose(by_bytes.observations, by_fractions.observations)
    assert torch.allclose(by_bytes.log_probs, by_fractions.log_probs, atol=1e-5)
    assert by_bytes.observations.std() > 0.2


def unbounded(size, share, space=None):
    """An environment that observes 1,000 in that share of its numbers, else 1."""

    class Unbounded(Short):
        observation_space = space or spaces.Box(-np.inf, np.inf, (size,), np.float32)

        def observed(self):
            return np.where(np.arange(size) < share * size, 1000, 1).astype(np.float32)

    return register(Unbounded)


def said(caplog, name, updates=3):
    caplog.clear()
    assert main([*TRAIN, "--env", name, "--num-envs", "2", "--updates", str(updates), "--epochs", "1"]) == 0
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("size", "share", "percent"), [(10, 0.2, 20), (4, 1, 100), (20_000, 0.5, 50)])
def test_many_numbers_that_are_cut_off_are_one_warning_of_a_run(size, share, percent, caplog):
    assert said(caplog, unbounded(size, share)) == [
        f"{percent}% of the observed numbers lie beyond ±10, where the policy cuts them off; scale them in the "
        "environment, or give its observation space their bounds, by which the trainer scales"
    ]


def test_few_of_them_are_none(caplog):
    assert said(caplog, unbounded(10, 0.1)) == []


def test_bounds_that_the_numbers_do_not_have_are_one_warning_of_a_run(caplog):
    message = (
        "observations use less than 1% of the bounds, beyond ±10, by which the trainer scales them; give the "
        "observation space the bounds that they have"
    )
    assert said(caplog, unbounded(3, 0, spaces.Box(0, 255, (3,), np.float32))) == [message]
    assert said(caplog, unbounded(3, 0, spaces.Box(0, 99, (3,), np.float32))) == []
    assert said(caplog, unbounded(3, 1 / 3, spaces.Box(0, 1000, (3,), np.float32))) == []


@pytest.mark.parametrize("name", ["CartPole-v1", "heads"])
def test_what_fits_stays_bit_for_bit_and_says_nothing(name, caplog):
    environment = make_environment(name, 2, {})
    observations = environment.reset(0)
    assert environment.scale.scaled(observations) is observations
    assert said(caplog, name, updates=1) == []
