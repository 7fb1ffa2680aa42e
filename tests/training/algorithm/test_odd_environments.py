"""What an environment does once must not outlast it: a broken observation, an action that it overwrites."""

import numpy as np
import pytest
import torch

from tests.support.agents import evaluate, setup
from tests.support.short_environment import STEPS, Short, register

ROLLOUT = 2 * STEPS


def breaking(at, value):
    """Copies of Short; the first observes ``value`` once: observation ``at`` of its life, resets included."""
    made = []

    class Breaking(Short):
        def __init__(self):
            self.seen = -1
            self.first = not made
            made.append(self)

        def observed(self):
            self.seen += 1
            return super().observed() * (value if self.first and self.seen == at else 1)

    return register(Breaking)


@pytest.mark.parametrize("at", [0, 1, STEPS, STEPS + 1, ROLLOUT - 1, ROLLOUT + 1])
@pytest.mark.parametrize("options", [{}, {"critic": "shared"}, {"precision": "bfloat16"}], ids=str)
def test_a_broken_observation_costs_one_update(at, options):
    """Observed at a reset, within an episode, as its last one: at the latest, the next episode is sound."""
    _, agent, collector = setup(breaking(at, np.nan), envs=2, hidden=8, **options)
    broken = [agent._update_network(collector.collect(ROLLOUT)).nonfinite for _ in range(4)]
    assert broken.count(True) == 1
    assert all(torch.isfinite(parameter).all() for parameter in agent.network.parameters())
    assert all(torch.isfinite(part).all() for part in collector._state)


def test_the_episode_after_a_broken_one_begins_with_zeros_in_rollout_and_update():
    _, agent, collector = setup(breaking(ROLLOUT - 2, np.nan), envs=2, hidden=8)
    collector.collect(ROLLOUT - 1)  # the state that is carried is NaN; the episode has one more step
    rollout = collector.collect(ROLLOUT)
    assert torch.isnan(rollout.state[0][0]).all()
    assert rollout.values[1:].isfinite().all()
    found = evaluate(agent, rollout)
    assert torch.allclose(found.values[1:], rollout.values[1:], atol=1e-5)
    assert found.values[1:].isfinite().all()
