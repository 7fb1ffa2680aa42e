"""Learning rate and entropy coefficient over a run, as the optimiser applies them and as they are exported."""

import pytest

from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from tests.support.agents import setup


class Kept:
    def __init__(self):
        self.payloads = []

    def handle_ppo_update(self, payload):
        self.payloads.append(payload)


def schedule(limits, updates=0, **config):
    """(learning rate, entropy coefficient) of each update, as they are exported."""
    _, agent, collector = setup(
        envs=2, rollout_steps=16, epochs=1, learning_rate=0.008, entropy_coefficient=0.04, **config
    )
    applied, kept = [], Kept()
    update = agent._update_network

    def updated(rollout):
        applied.append(agent._optimizer.param_groups[0]["lr"])
        return update(rollout)

    agent._update_network = updated
    train(agent, collector, Emitter([kept], lambda: None), limits, lambda: False, updates=updates)
    assert applied == [payload.learning_rate for payload in kept.payloads]
    return [(payload.learning_rate, payload.entropy_coefficient) for payload in kept.payloads]


def test_both_fall_on_a_line_to_0_at_the_end_of_the_run():
    found = schedule(Limits(4, None))
    assert found == [pytest.approx((0.008 * left, 0.04 * left)) for left in (1, 0.75, 0.5, 0.25)]


def test_a_resumed_run_goes_on_along_the_line():
    assert schedule(Limits(4, None), updates=3) == [pytest.approx((0.002, 0.01))]


def test_episodes_end_a_run_as_updates_do():
    """One rollout is one episode of each environment."""
    assert [rate for rate, _ in schedule(Limits(None, 2))] == pytest.approx([0.008, 0.004])
    assert [rate for rate, _ in schedule(Limits(8, 2))] == pytest.approx([0.008, 0.004])


def test_either_can_stay_constant():
    assert schedule(Limits(2, None), learning_rate_schedule="constant")[1] == pytest.approx((0.008, 0.02))
    assert schedule(Limits(2, None), entropy_schedule="constant")[1] == pytest.approx((0.004, 0.04))


def test_the_bonus_of_the_loss_follows_the_coefficient():
    def after(done):
        _, agent, collector = setup(
            envs=2, rollout_steps=16, learning_rate_schedule="constant", entropy_coefficient=1.0
        )
        agent.anneal(done)
        agent._update_network(collector.collect(16))
        return agent.network.heads.bias_out.detach().clone()

    assert not after(0.0).equal(after(0.9))
    assert after(0.5).equal(after(0.5))
