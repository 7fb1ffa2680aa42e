"""Trains one run with its intervention, and leaves what it measured: one JSON file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.intervention_runs.kinds import Kind, Means
from benchmarks.intervention_runs.moving import MovingTargetEnv
from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.intervention.law import HeadControl, answer
from rl_exporter.snapshot import RunInfo, SanctumSnapshot
from rl_training.action_space import HEADS
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent, with_multipliers
from rl_training.environments.adapter import TrainingEnvironment, make_environment
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter

Added = Callable[[SanctumSnapshot], Mapping[str, float]]
"""From the run after an update to what every head gets on top in the next one, in nats."""


def train_run(kind: Kind, means: Means, seed: int, path: Path) -> None:
    """Train one run. ``path`` appears when it is complete, so that no half run is kept."""
    torch.set_num_threads(1)
    began = time.process_time()
    environment = _environment(kind)
    try:
        updates = _trained(kind, means, seed, environment)
    finally:
        environment.close()
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"cpu_seconds": time.process_time() - began, "updates": updates}))
    partial.rename(path)


def _environment(kind: Kind) -> TrainingEnvironment:
    if kind.moves_at:
        after = kind.moves_at * kind.learning.rollout_steps
        moving = MovingTargetEnv(kind.num_envs, kind.arguments["paid_head"], after)
        return TrainingEnvironment(moving, HEADS)
    return make_environment("heads", kind.num_envs, kind.arguments)


def _trained(kind: Kind, means: Means, seed: int, environment: TrainingEnvironment) -> list[dict[str, Any]]:
    config = kind.learning
    heads = with_multipliers(environment.heads, config.entropy_multiplier)
    agent = PPOAgent(heads, environment.observation_size, config, seed=seed)
    aggregator = SanctumAggregator(heads, RunInfo(f"{kind.name}-{seed}"))
    collector = RolloutCollector(environment, agent.network, seed=seed, device=agent.device)
    intervene = _intervention(means)
    agent.add_entropy_coefficients(dict.fromkeys(heads.names, means.fixed))
    updates: list[dict[str, Any]] = []
    adding: dict[str, float] = dict.fromkeys(heads.names, means.fixed)

    def after_update() -> None:
        snapshot = aggregator.snapshot()
        updates.append(_row(snapshot, adding))
        adding.update(intervene(snapshot))
        agent.add_entropy_coefficients(adding)

    emitter = Emitter([aggregator], aggregator.count_record_error)
    train(agent, collector, emitter, Limits(kind.updates, None), lambda: False, after_update=after_update)
    return updates


def _row(snapshot: SanctumSnapshot, adding: Mapping[str, float]) -> dict[str, Any]:
    """Return, and for each head its effective ratio, whether it is blind, and what the update had on top."""
    readings = snapshot.tamiyo.readings
    heads = {name: (one.effective, one.blind, adding[name]) for name, one in readings.items()}
    return {"return": snapshot.episode_return, "heads": heads}


def _intervention(means: Means) -> Added:
    if means.gains is not None:
        return _Controller(means)
    if means.steps:
        return _Steps(means)
    return lambda _snapshot: {}


@dataclass
class _Steps:
    """One coefficient for all heads, as TRL moves it: by a fixed step, up where the entropy of the policy is
    below its target and down where it is not, from 0 to 1. It applies while the entropy is at most the target.
    """

    means: Means
    coefficient: float = 0.0

    def __call__(self, snapshot: SanctumSnapshot) -> Mapping[str, float]:
        heads, entropy = snapshot.tamiyo.heads, snapshot.tamiyo.entropy
        if entropy is None:
            return {}
        target = self.means.target * math.fsum(head.max_entropy for head in heads)
        step = self.means.steps if entropy < target else -self.means.steps
        self.coefficient = min(max(self.coefficient + step, 0.0), 1.0)
        return dict.fromkeys(heads.names, self.coefficient if entropy <= target else 0.0)


class _Controller:
    """The law of the controller, for every head."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._controls: dict[str, HeadControl] = {}

    def __call__(self, snapshot: SanctumSnapshot) -> Mapping[str, float]:
        gains = self._means.gains
        assert gains is not None
        for name, reading in snapshot.tamiyo.readings.items():
            control = self._controls.get(name, HeadControl())
            seen = sum(reading.effective_histogram.counts)
            if reading.effective is not None and seen > control.seen:
                blind = reading.blind or not self._means.gated
                self._controls[name] = answer(
                    control, gains, self._means.target, reading.effective, seen, blind=blind
                )
        return {name: control.added for name, control in self._controls.items()}
