"""Trains one run of the cohort and leaves its log: a JSON line per update, as ``rl-train --log-json``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from benchmarks.cohort_runs.cues import register
from benchmarks.cohort_runs.recipe import Recipe
from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.payload import PPOUpdateHandler
from rl_exporter.snapshot import RunInfo
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent, with_multipliers
from rl_training.environments.adapter import make_environment
from rl_training.run.json_log import JsonLog
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter


def train_run(recipe: Recipe, seed: int, log: Path) -> None:
    """Train ``recipe`` with ``seed``. ``log`` appears when the run has completed, so no half log is kept."""
    torch.set_num_threads(1)
    register()
    environment = make_environment(recipe.environment, recipe.num_envs, recipe.arguments)
    try:
        config = recipe.learning
        heads = with_multipliers(environment.heads, config.entropy_multiplier)
        agent = PPOAgent(heads, environment.observation_size, config, seed=seed)
        if recipe.cut_head:
            cut_input(agent, recipe.cut_head)
        aggregator = SanctumAggregator(heads, RunInfo(f"{recipe.name}-{seed}"))
        collector = RolloutCollector(environment, agent.network, seed=seed, device=agent.device)
        partial = log.with_suffix(".partial")
        with closing(JsonLog(aggregator.snapshot, partial, aggregator.count_record_error)) as written:
            handlers: list[PPOUpdateHandler] = [aggregator, written]
            emitter = Emitter(handlers, aggregator.count_record_error)
            train(agent, collector, emitter, Limits(recipe.updates, None), _never)
        partial.rename(log)
    finally:
        environment.close()


def _never() -> bool:
    return False


def cut_input(agent: PPOAgent, head: str) -> None:
    """Cut what ``head`` sees of the state: its first layer is 0 and stays so, and only its biases learn."""
    index = agent.heads.names.index(head)
    weight = agent.network.heads.weight_in
    keep = torch.ones(len(agent.heads), 1, 1)
    keep[index] = 0.0
    with torch.no_grad():
        weight.mul_(keep)
        # tanh of a zero bias would be 0, and pass nothing on to the output layer.
        agent.network.heads.bias_in[index].fill_(1.0)
    weight.register_hook(_times(keep))  # type: ignore[no-untyped-call]


def _times(keep: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda gradient: gradient * keep
