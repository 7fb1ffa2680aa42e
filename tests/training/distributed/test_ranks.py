"""Several ranks compute what one process would; here the ranks are threads (``test_torchrun``: processes)."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rl_exporter import RunState
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.episodes import WINDOW, Finished
from rl_training.algorithm.ppo import PPOAgent, minibatches
from rl_training.algorithm.rollout_counts import RolloutCounts, counts_of_all_ranks
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.environments.growing.vector import environment_seed
from rl_training.ranks import SINGLE_PROCESS, RankLostError
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from tests.support.agents import poison, setup
from tests.support.payloads import assert_close, exported
from tests.support.ranks import agent_on, at_once, parameters_of, part_of, recorded_rollout, thread_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rollout():
    return recorded_rollout()


def updated(rollout, size, **config):
    """Agents of all ranks and what each found in one update."""
    ranks = thread_ranks(size) if size > 1 else [SINGLE_PROCESS]
    agents = [agent_on(each, **config) for each in ranks]
    parts = [part_of(rollout, rank, size) for rank in range(size)]
    results = at_once([partial(agent._update_network, part) for agent, part in zip(agents, parts, strict=True)])
    return agents, results


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("config", [{}, {"target_kl": 1e-5, "learning_rate": 3e-3}, {"minibatches": 1}])
def test_ranks_find_and_learn_what_one_process_does(rollout, size, config):
    (one,), (alone,) = updated(rollout, 1, **config)
    agents, results = updated(rollout, size, **config)
    for agent, result in zip(agents, results, strict=True):
        assert torch.allclose(parameters_of(agent), parameters_of(one), rtol=0, atol=1e-5)
        assert_close(exported(result), exported(alone))
        assert result.head_entropy_history.keys() == alone.head_entropy_history.keys()
        for name, history in alone.head_entropy_history.items():
            assert result.head_entropy_history[name] == pytest.approx(history, abs=1e-5)
    shown = exported(results[0])
    assert shown["tempo.choice_entropy"] is None
    assert shown["tempo.choice_share"] == 0
    assert shown["slot.choice_entropy"] > 0


def test_the_divergence_that_ends_an_update_is_that_of_all_ranks(rollout):
    """Only the last environment diverges: one rank sees too much, the others nothing; all stop together."""
    shifted = rollout.log_probs.clone()
    shifted[:, -1] -= 0.5
    far = replace(rollout, log_probs=shifted)
    limit = {"target_kl": 1e-3, "learning_rate": 1e-6}
    assert {len(r.head_entropy_history["op"]) for r in updated(rollout, 4, **limit)[1]} == {8}
    assert {len(r.head_entropy_history["op"]) for r in updated(far, 4, **limit)[1]} == {1}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nonfinite_number_on_one_rank_is_seen_by_all(rollout, value):
    agents, results = updated(poison(rollout, value), 4)
    assert [result.nonfinite for result in results] == [True] * 4
    for agent in agents:
        assert torch.equal(parameters_of(agent), parameters_of(agent_on(SINGLE_PROCESS)))


def test_steps_with_broken_logits_are_counted_over_all_ranks(rollout):
    observations = rollout.observations.clone()
    observations[20:22, 0] = math.nan
    observations[23, -1] = math.nan
    broken = replace(rollout, observations=observations)
    (alone,) = updated(broken, 1)[1]
    assert alone.head_nonfinite["op"].nan_steps > 2
    # Only as far as the minibatches go alike: the first that is broken ends the update.
    for result in updated(broken, 4)[1]:
        assert result.head_nonfinite == alone.head_nonfinite


def test_telemetry_that_fails_on_one_rank_is_an_error_on_all_and_training_goes_on(rollout, monkeypatch):
    ranks = thread_ranks(2)
    agents = [agent_on(each) for each in ranks]
    reduced = "rl_training.telemetry.update.UpdateTelemetry._measure"
    from rl_training.telemetry.update import UpdateTelemetry

    original = UpdateTelemetry._measure

    def sometimes(self, *arguments):
        if self._ranks.rank == 1:
            raise RuntimeError("no memory for telemetry")
        return original(self, *arguments)

    monkeypatch.setattr(reduced, sometimes)
    parts = [part_of(rollout, rank, 2) for rank in range(2)]
    zero, one = at_once([partial(a._update_network, p) for a, p in zip(agents, parts, strict=True)])
    assert "no memory" in str(one.error)
    assert "1 other ranks could not measure" in str(zero.error)
    assert torch.equal(parameters_of(agents[0]), parameters_of(agents[1]))
    assert not torch.equal(parameters_of(agents[0]), parameters_of(agent_on(SINGLE_PROCESS)))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_minibatch_has_an_equal_part_of_every_rank(size):
    shuffle = np.random.default_rng(0)
    groups = minibatches(shuffle, 24, 3)
    assert sorted(np.concatenate(groups)) == list(range(24))
    own = 24 // size
    for group in groups:
        assert [np.sum(group // own == rank) for rank in range(size)] == [8 // size] * size
    assert any(not np.array_equal(a, b) for a, b in zip(groups, minibatches(shuffle, 24, 3), strict=True))


@pytest.mark.parametrize(("environments", "parts"), [(1, 4), (3, 4), (7, 4), (9, 4), (32, 5)])
def test_minibatches_differ_by_one_at_most(environments, parts):
    groups = minibatches(np.random.default_rng(0), environments, parts)
    assert sorted(np.concatenate(groups)) == list(range(environments))
    sizes = [len(group) for group in groups]
    assert len(sizes) == min(parts, environments)
    assert max(sizes) - min(sizes) <= 1


def collectors(size, name, total, arguments=None, seed=3):
    found = []
    for ranks in thread_ranks(size) if size > 1 else [SINGLE_PROCESS]:
        env, agent, _ = setup(name, envs=total // size, arguments=arguments)
        found.append(RolloutCollector(env, agent.network, seed=seed, device=agent.device, ranks=ranks))
    return found


@pytest.mark.parametrize(
    ("name", "arguments"), [("heads", {"consult": "table"}), ("CartPole-v1", {})], ids=["heads", "gymnasium"]
)
def test_an_environment_keeps_its_seed_and_its_stream_on_any_rank(name, arguments):
    (one,) = collectors(1, name, 4, arguments)
    two = collectors(2, name, 4, arguments)
    for steps in (20, 30):
        alone = one.collect(steps)
        parts = at_once([partial(each.collect, steps) for each in two])
        assert torch.equal(torch.cat([part.actions for part in parts], 1), alone.actions)
        assert torch.equal(torch.cat([part.rewards for part in parts], 1), alone.rewards)
        for collector, part in zip(two, parts, strict=True):
            assert (part.steps, part.episodes) == (alone.steps, alone.episodes)
            assert part.choice_share == alone.choice_share
            assert part.open_share == alone.open_share
            assert collector.progress() == one.progress()
            assert collector.episode_return == one.episode_return
    assert one.episodes.sum() > 4


def test_a_growing_network_keeps_its_seed_on_any_rank(monkeypatch):
    environment = make_environment("growing-network", 2, {"workers": 0})
    seen = []

    def reset(seed):
        seen.append(seed)
        return np.zeros((2, environment.observation_size)), {}

    monkeypatch.setattr(environment.vector, "reset", reset)
    environment.reset(7, first=4)
    assert seen == [[environment_seed(7, 4), environment_seed(7, 5)]]


def trained(size, stops, limits):
    """The state in which each rank ends; ``stops``: when to stop, by rank."""
    calls = []
    for rank, ranks in enumerate(thread_ranks(size)):
        env, _, _ = setup("heads", envs=16 // size)
        agent = PPOAgent(
            env.heads, env.observation_size, PPOConfig(rollout_steps=16, minibatches=4), ranks=ranks
        )
        collector = RolloutCollector(env, agent.network, seed=3, device=agent.device, ranks=ranks)
        emitter = Emitter([], lambda: None)
        stop = stops.get(rank, lambda: False)
        calls.append(partial(train, agent, collector, emitter, limits, stop))
    return at_once(calls)


def test_a_stop_on_any_rank_is_a_stop_on_all():
    asked = iter([False] * 40)
    states = trained(4, {2: lambda: next(asked, True)}, Limits(None, None))
    assert states == [RunState.INTERRUPTED] * 4


def test_ranks_reach_their_limit_together():
    assert trained(2, {}, Limits(None, 3)) == [RunState.COMPLETED] * 2


def counts(**changed):
    none = np.zeros(2, np.int64)
    return RolloutCounts(False, none, none, np.zeros(1, np.int64), ())._replace(**changed)


def test_a_lost_rank_outranks_a_wish_to_stop():
    """A launcher that lost a rank tells the others to stop, and the lost one may have answered before."""

    class Lost:
        rank, size, asked = 0, 2, 0

        def gather(self, row):
            self.asked += 1
            if self.asked == 2:
                raise RankLostError("gone")
            return torch.stack([row, row])

    ranks = Lost()
    assert not counts_of_all_ranks(counts(), ranks).stop
    with pytest.raises(RankLostError, match="gone"):
        counts_of_all_ranks(counts(stop=True), Lost())


def test_returns_are_of_the_last_episodes_of_all_ranks_in_the_order_of_their_end():
    class Two:
        rank, size = 0, 2

        def gather(self, row):
            return torch.stack([row, other])

    mine = tuple(Finished(step, 0, float(step)) for step in range(WINDOW))
    yours = counts(finished=(Finished(50, 1, -1.0), Finished(200, 1, 200.0)), choice=np.array([3, 4]))
    from rl_training.algorithm.rollout_counts import _packed

    other = torch.from_numpy(_packed(yours))
    found = counts_of_all_ranks(counts(finished=mine, choice=np.array([1, 1])), Two())
    assert len(found.finished) == WINDOW
    assert found.finished[-1] == Finished(200, 1, 200.0)
    assert [e.environment for e in found.finished if e.step == 50] == [0, 1]
    assert found.finished[0].step == 2
    assert found.choice.tolist() == [4, 5]
