"""PPO really learns, and the drill collapses one head while its twin stays healthy."""

import json

import numpy as np
import pytest

from rl_exporter import Level
from rl_exporter.health import level
from rl_training.algorithm import collector as rollout_module
from rl_training.algorithm.advantages import generalized_advantages
from rl_training.run.cli import main
from stack.drill import DRILL, HEALTHY_TWIN
from tests.support import ROOT
from tests.support.agents import setup


def gap_closed(seed, delay, updates=60):
    env, agent, collector = setup(
        seed=seed,
        arguments={"noise": 4, "delay": delay},
        learning_rate=3e-3,
        gamma=0.9,
        entropy_coefficient=0.003,
    )
    for _ in range(updates):
        agent._update_network(collector.collect(64))
    uniform, best = env.vector.uniform_return, env.vector.best_return
    return (collector.episode_return - uniform) / (best - uniform)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_it_learns(seed, delay):
    assert gap_closed(seed, delay) >= 0.7


@pytest.mark.slow
def test_that_proof_fails_with_the_advantage_upside_down(monkeypatch):
    monkeypatch.setattr(
        "rl_training.algorithm.ppo.generalized_advantages", lambda *a: -generalized_advantages(*a)
    )
    assert gap_closed(0, 0) < 0.1


@pytest.mark.slow
def test_that_proof_fails_without_memory(monkeypatch):
    def forgetful(self, *arguments):
        self._starts = np.ones_like(self._starts)
        return original(self, *arguments)

    original = rollout_module.RolloutCollector._step
    monkeypatch.setattr(rollout_module.RolloutCollector, "_step", forgetful)
    assert gap_closed(0, 1) < 0.7


def played(arguments, seed, tmp_path):
    log = tmp_path / "log.jsonl"
    fixed = ["--listen", "127.0.0.1:0", "--quiet", "--seed", str(seed), "--log-json", str(log)]
    assert main([*arguments, *fixed]) == 0
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_drill_collapses_one_head_while_the_total_looks_healthy(seed, tmp_path):
    updates = played(DRILL, seed, tmp_path)
    ratios = [u["rl_policy_head_choice_entropy_ratio"] for u in updates]
    down = next(i for i, r in enumerate(ratios) if level(r["blueprint"]) is Level.CRITICAL)
    assert down < 25
    assert min(value for r in ratios[: down + 1] for name, value in r.items() if name != "blueprint") > 0.75
    total = [u["rl_policy_entropy_nats"] for u in updates]
    assert total[down] / total[0] > 0.7


@pytest.mark.slow
def test_the_healthy_twin_never_warns(tmp_path):
    for update in played(HEALTHY_TWIN, 0, tmp_path):
        assert min(update["rl_policy_head_choice_entropy_ratio"].values()) > 0.5


@pytest.mark.slow
def test_cartpole_is_solved_by_the_documented_command(tmp_path):
    command = next(
        line.split()
        for line in (ROOT / "docs/train.md").read_text().splitlines()
        if "rl-train --env CartPole" in line
    )
    updates = played(command[command.index("--env") :], 0, tmp_path)
    assert max(u.get("rl_training_episode_return", 0) for u in updates) >= 475
