"""What environments do that is odd, and harms no training: broken observations, actions overwritten, any info."""

import json

import numpy as np
import pytest
import torch

from rl_training.environments.adapter import make_environment, make_single
from rl_training.run.cli import main
from tests.support.agents import evaluate, setup
from tests.support.short_environment import STEPS, Short, register

ROLLOUT = 2 * STEPS


def breaking(at, value):
    """Copies of Short; the first observes ``value`` once: observation ``at`` of its life, resets included.

    Number 0 is that of the check of the first reset, which no rollout holds.
    """
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


@pytest.mark.parametrize("at", [1, 2, STEPS + 1, STEPS + 2, ROLLOUT, ROLLOUT + 2])
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


def paying(reward, at=1):
    """Copies of Short; the first pays ``reward`` once, in step ``at`` of its life."""
    made = []

    class Paying(Short):
        def __init__(self):
            self.steps, self.first = 0, not made
            made.append(self)

        def step(self, action):
            observation, usual, *rest = super().step(action)
            self.steps += 1
            return observation, reward if self.first and self.steps == at else usual, *rest

    return register(Paying)


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf, 1e39])
def test_a_reward_that_is_not_finite_costs_one_update_and_its_episode_and_is_named_once(reward, caplog):
    _, agent, collector = setup(paying(reward), envs=2, hidden=8)
    broken, shown = [], []
    for _ in range(3):
        rollout = collector.collect(ROLLOUT)
        broken.append(agent._update_network(rollout).nonfinite)
        shown.append(collector.episode_return)
    assert broken == [True, False, False]
    assert all(0 <= mean <= STEPS for mean in shown)
    assert collector.episodes.sum() == 12
    assert len(collector.progress()["returns"]) == len(collector.progress()["lengths"]) == 11
    assert [line for line in caplog.messages if "reward" in line] == [
        "a reward of the environment is not finite: the update that it belongs to is skipped, and its episode "
        "stays out of the mean return; give finite rewards. Later ones are not mentioned"
    ]


@pytest.mark.parametrize("at", [3, 3 * ROLLOUT + 3])
def test_a_reward_that_no_loss_can_hold_costs_one_update_and_is_not_what_later_returns_are_measured_by(at):
    _, agent, collector = setup(paying(1e30, at), envs=2, hidden=8)
    broken = [agent._update_network(collector.collect(ROLLOUT)).nonfinite for _ in range(6)]
    assert broken == [update == at // ROLLOUT for update in range(6)]
    assert agent.network.value.scale.item() < 100
    assert agent._advantage_scale.recent.item() < 100


def test_a_huge_reward_is_forgotten():
    _, agent, collector = setup(paying(1e9, 3 * ROLLOUT + 3), envs=2, hidden=8)
    scales = []
    for _ in range(6):
        assert not agent._update_network(collector.collect(ROLLOUT)).nonfinite
        scales.append((agent.network.value.scale.item(), agent._advantage_scale.recent.item()))
    assert max(max(each) for each in scales) < 1e3


def test_it_is_named_before_its_episode_ends_and_metrics_show_the_others(caplog, tmp_path):
    _, _, collector = setup(paying(np.nan), envs=1, hidden=8)
    collector.collect(STEPS - 1)
    assert "a reward of the environment is not finite" in caplog.text
    log = tmp_path / "log"
    arguments = ["--env", paying(np.nan, at=5), "--num-envs", "2", "--rollout-steps", "4", "--updates", "4"]
    arguments += ["--listen", "127.0.0.1:0", "--linger", "0", "--quiet", "--log-json", str(log)]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    returns = [line["rl_training_episode_return"] for line in lines]
    assert [round(mean * number, 6) % 1 for mean, number in zip(returns, (2, 3, 5, 7), strict=True)] == [
        0.0
    ] * 4
    assert lines[-1]["rl_training_episodes_total"] == 8


def test_a_window_of_a_former_version_loses_what_is_not_finite():
    _, _, collector = setup(register(Short), envs=2, hidden=8)
    collector.restore({"episodes": [1, 2], "returns": [1.0, np.nan, 3.0, np.inf]})
    assert collector.episode_return == 2.0


class Overwriting(Short):
    """Replaces the action by a no-op, as one that is not allowed, and returns views of arrays that it reuses."""

    def __init__(self):
        self.seen, self.mask = np.zeros(3, np.float32), np.ones(7, np.bool_)

    def step(self, action):
        assert self.action_space.contains(action)
        observation, *rest = super().step(action)
        action[...] = 0
        return observation, *rest

    def observed(self):
        self.mask[1:3] = self.np_random.random() < 0.5
        self.seen[:] = super().observed()
        return self.seen

    def action_masks(self):
        return self.mask


def test_what_an_environment_writes_into_its_action_is_not_recorded():
    """Nor what it writes later into the arrays that it gave."""
    _, _, collector = setup(register(Overwriting), envs=8, hidden=8)
    rollout = collector.collect(32)
    assert rollout.actions[..., 0].unique().tolist() == [0, 1, 2]
    assert rollout.actions[..., 1].unique().tolist() == [0, 1, 2, 3]
    assert rollout.masks.any(axis=(0, 1)).all()
    assert not rollout.masks.all()
    allowed = torch.from_numpy(rollout.masks[..., 0, :3]).gather(-1, rollout.actions[..., :1])
    assert allowed.all()
    assert len(rollout.observations.unique()) == rollout.observations.numel()


def test_the_actions_of_the_caller_stay_as_they_are():
    environment = make_environment(register(Overwriting), 2, {})
    environment.reset(0)
    actions = np.ones((2, 2), np.int64)
    environment.step(actions)
    assert actions.all()


def informing(what):
    """Environments that say in ``info``, at resets and steps, what no array of all copies can hold."""

    class Informing(Short):
        def reset(self, **arguments):
            return super().reset(**arguments)[0], self.info()

        def step(self, action):
            *rest, _ = super().step(action)
            return *rest, {"metrics": {"steps": self.count}, **self.info()}

        def info(self):
            return what(int(self.np_random.integers(4)))

    return register(Informing)


UNREAD = {
    "a list whose length varies": lambda n: {"legal": np.arange(n)},
    "a number or None": lambda n: {"winner": 1 if n % 2 else None},
    "a number or a text": lambda n: {"why": 1.5 if n % 2 else "won"},
    "a mapping or a number": lambda n: {"state": {"deep": np.zeros(n)} if n % 2 else n},
    "names of Gymnasium's own": lambda n: {"final_obs": n, "final_info": None, "_final_obs": "none"},
    "nothing at times": lambda n: {"key": n} if n % 2 else {},
}


@pytest.mark.parametrize("what", UNREAD.values(), ids=UNREAD)
def test_what_the_trainer_does_not_read_of_info_ends_no_run(what):
    _, agent, collector = setup(informing(what), envs=4, hidden=8)
    for _ in range(3):
        assert not agent._update_network(collector.collect(ROLLOUT)).nonfinite
    assert collector.finished.metrics == {"steps": STEPS}


@pytest.mark.parametrize("what", UNREAD.values(), ids=UNREAD)
def test_nor_a_replay(what):
    environment = make_single(informing(what), {})
    environment.reset(0)
    for _ in range(STEPS):
        *_, truncated, final = environment.step(np.zeros((1, 2), np.int64))
    assert truncated.all()
    assert final.shape == (1, 3)
    assert environment.reports[0].metrics == {"steps": STEPS}
