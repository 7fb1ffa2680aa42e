"""The advantage margin: whether a head is paid for what it mostly does."""

import math
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_ind

from rl_exporter.decisions import DECAY, Margin, margin
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.torch import HeadMeter
from tests.support.agents import setup
from tests.support.stand_in_gpu import stand_in_gpu


def sums_of(actions, advantages, choices):
    """Of each action, as lists."""
    powers = (np.ones_like(advantages), advantages, advantages**2)
    return [np.bincount(actions, power, minlength=choices).tolist() for power in powers]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_difference_of_means_with_welchs_t(seed):
    generator = np.random.default_rng(seed)
    actions, advantages = generator.integers(4, size=50), generator.standard_normal(50)
    found = margin(2, *sums_of(actions, advantages, 4))
    kinds = advantages[actions == 2], advantages[actions != 2]
    assert found.difference == pytest.approx(kinds[0].mean() - kinds[1].mean())
    assert found.t == pytest.approx(ttest_ind(*kinds, equal_var=False).statistic)


@pytest.mark.parametrize("actions", [[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
def test_without_two_steps_of_either_kind_there_is_none(actions):
    assert margin(0, *sums_of(np.array(actions), np.arange(4.0), 2)) == Margin(None, None)


def test_without_any_spread_there_is_a_margin_but_no_t():
    found = margin(0, *sums_of(np.array([0, 0, 0, 1, 1]), np.array([0.3, 0.3, 0.3, 0.1, 0.1]), 2))
    assert found.difference == pytest.approx(0.2)
    assert found.t is None


def test_it_counts_choice_steps_with_a_finite_advantage():
    _, agent, collector = setup(arguments={"consult": "table"})
    rollout = collector.collect(32)
    advantages = torch.randn(rollout.values.shape)
    advantages[3, 2], advantages[4, 0] = math.nan, math.inf
    found = advantage_sums(rollout.choice, rollout.actions, advantages, agent.network.layout)
    finite = torch.isfinite(advantages)
    for head, own in enumerate(agent.network.layout.slices):
        kept = rollout.choice[..., head] & finite
        sampled = rollout.actions[..., head][kept].numpy()
        expected = sums_of(sampled, advantages[kept].double().numpy(), own.stop - own.start)
        for part, values in zip(found, expected, strict=True):
            assert part[own].tolist() == pytest.approx(values)


def test_past_updates_decay_and_a_failure_keeps_them(monkeypatch):
    _, agent, collector = setup(epochs=1)
    updates = []
    for _ in range(2):
        before, rollout = agent._advantage_sums, collector.collect(16)
        agent._update_network(rollout)
        added = agent._advantage_sums.steps.sum() - DECAY * before.steps.sum()
        updates.append((added.item(), rollout.choice.sum().item()))
    assert all(added == pytest.approx(sampled) for added, sampled in updates)

    def broken(*arguments):
        raise RuntimeError("no memory for telemetry")

    kept = agent._advantage_sums
    monkeypatch.setattr("rl_training.telemetry.update.advantage_sums", broken)
    assert agent._update_network(collector.collect(16)).error is not None
    assert agent._advantage_sums is kept


def test_a_head_that_is_paid_for_its_action_has_a_positive_margin():
    _, agent, collector = setup(epochs=1)
    rollout = collector.collect(64)
    with torch.no_grad():
        agent.network.heads.bias_out[0, 3] += 0.2
    paid = replace(rollout, rewards=(rollout.actions[..., 0] == 3).float())
    result = agent._update_network(paid)
    assert result.head_advantage_margin["op"].t > 4
    assert AdvantageSums.none(3).after(AdvantageSums(*torch.ones(3, 3))).steps.tolist() == [1, 1, 1]


def test_a_rollout_that_comes_before_the_first_logits_of_a_gpu_keeps_its_margin(monkeypatch):
    """The meter learns from the first logits where the policy lies; until then it is on the host."""
    logits, actions, advantages = torch.zeros(40, 3), torch.arange(40) % 3, torch.randn(40)
    found = []
    for on_gpu in (False, True):
        with stand_in_gpu(monkeypatch) if on_gpu else nullcontext():
            meter = HeadMeter({"arm": 3})
            meter.add_rollout(actions.unsqueeze(1), advantages)
            meter.add(logits)
            found.append(meter.result()["advantage_margin"])
    assert found[0] == found[1] != {}
