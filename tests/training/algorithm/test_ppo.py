"""PPO: what it reproduces, computes and survives, and that these proofs can fail."""

import logging
import math

import numpy as np
import pytest
import torch

from rl_exporter import Heads, RunInfo, RunState, SanctumAggregator
from rl_training.algorithm.advantages import generalized_advantages, moments
from rl_training.algorithm.losses import divergences
from rl_training.algorithm.ppo import with_multipliers
from rl_training.distributed.process_group import SINGLE_PROCESS
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter, build_payload
from tests.support.agents import evaluate, poison, setup


def second_rollout(**arguments):
    """A rollout of 25 steps after another, so that state is carried and episodes of 16 end inside."""
    _, agent, collector = setup(arguments={"consult": "table", "noise": 2, **arguments})
    collector.collect(25)
    return agent, collector.collect(25)


def test_evaluate_actions_reproduces_the_rollout():
    agent, rollout = second_rollout()
    assert rollout.ended.any()
    assert rollout.state[0].abs().sum() > 0
    found = evaluate(agent, rollout)
    assert torch.allclose(found.log_probs, rollout.log_probs, atol=1e-5)
    assert torch.allclose(found.values, rollout.values, atol=1e-5)


def test_that_proof_fails_when_the_state_is_not_reset():
    agent, rollout = second_rollout()
    found = evaluate(agent, rollout, starts=np.zeros_like(rollout.starts))
    assert not torch.allclose(found.values, rollout.values, atol=1e-5)


def test_that_proof_fails_under_the_wrong_mask_row():
    agent, rollout = second_rollout()
    found = evaluate(agent, rollout, masks=rollout.step_masks)
    assert not torch.allclose(found.log_probs, rollout.log_probs, atol=1e-5)


def test_unconsulted_heads_take_their_canonical_action_for_free():
    _, rollout = second_rollout()
    waits = rollout.actions[..., 0] == 0
    assert waits.any()
    assert (rollout.actions[waits][:, 1:] == 0).all()
    assert (rollout.log_probs[waits][:, 1:] == 0).all()
    assert not rollout.choice[waits][:, 1:].any()


def test_advantages_by_hand():
    column = torch.tensor([[1.0], [2.0], [3.0]])
    values = torch.tensor([[0.5], [0.25], [0.125]])
    following = torch.tensor([[0.25], [10.0], [0.0]])
    ended = torch.tensor([[False], [True], [True]])
    found = generalized_advantages(column, values, following, ended, gamma=0.5, lam=0.5)
    last = 3 - 0.125
    middle = 2 + 0.5 * 10 - 0.25  # truncated: bootstraps from the final observation, cuts lambda
    assert found.squeeze().tolist() == pytest.approx([1 + 0.125 - 0.5 + 0.25 * middle, middle, last])


def test_moments_are_exact_far_from_zero_and_nothing_varies_without_variance():
    far = 1e4 + torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
    mean, variance = moments(far, 320, SINGLE_PROCESS)
    assert mean.tolist() == pytest.approx(far.double().mean((1, 2)).tolist(), rel=1e-12)
    assert variance.tolist() == pytest.approx(far.double().flatten(1).var(1).tolist(), rel=1e-6)
    assert moments(torch.full((1, 37, 3), 0.1), 111, SINGLE_PROCESS).variance.item() == 0
    assert math.isnan(moments(torch.tensor([[[math.nan, 1.0]]]), 2, SINGLE_PROCESS).variance.item())


def test_truncation_bootstraps_from_the_final_observation_with_the_live_state():
    env, agent, collector = setup(envs=2)
    step_environment = env.step
    outcomes = []

    def step(actions):
        outcomes.append(step_environment(actions))
        return outcomes[-1]

    env.step = step
    rollout = collector.collect(16)
    assert rollout.ended[15].all()
    final = torch.tensor(outcomes[15][4])
    state = rollout.state
    with torch.no_grad():
        for observation in rollout.observations:
            state = agent.network.step(observation, state)[2]
        live = agent.network.step(final, state)[1]
        forgotten = agent.network.step(final, agent.network.initial_state(2))[1]
    assert torch.allclose(rollout.next_values[15], live, atol=1e-6)
    assert not torch.allclose(rollout.next_values[15], forgotten, atol=1e-6)
    assert torch.equal(rollout.next_values[:15], rollout.values[1:])


def test_termination_does_not_bootstrap():
    _, _, collector = setup("CartPole-v1", envs=2)
    rollout = collector.collect(64)
    assert rollout.ended.any()
    assert (rollout.next_values[rollout.ended] == 0).all()


def test_sampling_depends_on_seed_and_environment_index_alone():
    few, many = (setup(envs=n)[2].collect(8).actions for n in (2, 4))
    assert torch.equal(few, many[:, :2])
    assert not torch.equal(many[:, 0], many[:, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nonfinite_loss_leaves_parameters_finite_and_alone(value):
    _, agent, collector = setup()
    before = [p.clone() for p in agent.network.parameters()]
    result = agent._update_network(poison(collector.collect(16), value))
    assert result.nonfinite
    assert all(torch.equal(a, b) for a, b in zip(before, agent.network.parameters(), strict=True))
    measured = build_payload(result).heads
    assert {m.entropy for m in measured.values()} == {m.choice_share for m in measured.values()} == {None}
    assert min(m.nan_gradients + m.inf_gradients for m in measured.values()) > 0
    assert not agent._update_network(collector.collect(16)).nonfinite
    assert all(torch.isfinite(p).all() for p in agent.network.parameters())


def test_ten_nonfinite_updates_in_a_row_fail_the_run(caplog):
    _, agent, collector = setup()
    collect = collector.collect
    collector.collect = lambda steps, should_stop: poison(collect(steps, should_stop), math.nan)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    emitter = Emitter([aggregator], aggregator.count_record_error)
    with caplog.at_level(logging.WARNING, "rl_training"):
        state = train(agent, collector, emitter, Limits(50, None), lambda: False)
    assert state is RunState.FAILED
    assert aggregator.snapshot().tamiyo.updates == 10
    assert not aggregator.snapshot().tamiyo.readings["op"].measured
    assert "not finite" in caplog.text


def test_episodes_are_finished_by_every_environment():
    _, agent, collector = setup(envs=3)
    aggregator = SanctumAggregator(agent.heads, RunInfo("run"))
    emitter = Emitter([aggregator], aggregator.count_record_error)
    assert train(agent, collector, emitter, Limits(None, 5), lambda: False) is RunState.COMPLETED
    assert (collector.episodes >= 5).all()
    assert aggregator.snapshot().tamiyo.updates == 2
    assert aggregator.snapshot().episodes == 24


def test_unknown_multipliers_are_named():
    with pytest.raises(ValueError, match="unknown head 'arm'"):
        with_multipliers(Heads.of({"op": 3}), {"arm": 2.0})


def test_the_divergence_of_nearly_equal_policies_is_no_rounding():
    """Each step's is half the square of a small log ratio, and never negative."""
    small = torch.logspace(-6, -2, 50)
    for log_ratio in (small, -small):
        found = divergences(log_ratio)
        assert (found >= 0).all()
        exact = divergences(log_ratio.double())
        assert torch.allclose(found.double()[small > 1e-3], exact[small > 1e-3], rtol=1e-3)
    assert divergences(torch.tensor([0.0, -math.inf])).tolist() == [0.0, math.inf]
