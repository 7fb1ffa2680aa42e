"""The trainer of this project as ``rl-train`` runs it: its training loop, with telemetry."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.trainer_speed.setting import Cost, Setting
from benchmarks.trainer_speed.stopwatch import Stopwatch
from rl_exporter import RunInfo, SanctumAggregator
from rl_training.algorithm import collector, ppo
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from rl_training.telemetry.update import UpdateTelemetry

PRODUCTS = frozenset(f"aten::{name}" for name in ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_"))
"""What torch calls products of matrices."""

NEVER = 1e3
"""Limit of the KL divergence: an update that ends early would do less work than that of a peer."""


class OurTrainer:
    """PPO over the environment ``heads``, which stays on the CPU; the policy is on ``device``."""

    def __init__(self, setting: Setting, device: torch.device | str = "cpu", **options: Any) -> None:
        config = PPOConfig(
            hidden=setting.units,
            rollout_steps=setting.rollout_steps,
            epochs=setting.epochs,
            minibatches=setting.minibatches,
            target_kl=NEVER,
            **options,
        )
        self.environment = environment = make_environment("heads", setting.environments, {})
        self.agent = PPOAgent(environment.heads, environment.observation_size, config, device=device)
        self.collector = RolloutCollector(environment, self.agent.network, seed=0, device=self.agent.device)
        aggregator = SanctumAggregator(self.agent.heads, RunInfo("benchmark"))
        self.emitter = Emitter([aggregator], aggregator.count_record_error)

    def run(self, updates: int) -> Cost:
        """Train for some updates more."""
        watch = Stopwatch()
        began = time.process_time()
        with watch.watching(self.collector, "collect", "rollout"):
            train(self.agent, self.collector, self.emitter, Limits(updates, None), lambda: False)
        rollout = watch.seconds["rollout"]
        return Cost(rollout, time.process_time() - began - rollout)

    def parts(self, updates: int) -> dict[str, float]:
        """CPU seconds of each part of some updates more. To measure them takes time, too."""
        watch, agent = Stopwatch(), self.agent
        watched = (
            (self.collector, "collect", "rollout, rest"),
            (agent.network, "step", "policy step"),
            (collector, "sample_actions", "sampling"),
            (self.environment, "step", "environment"),
            (self.environment, "masks", "environment"),
            (agent, "_update_network", "update, rest"),
            (ppo, "ppo_losses", "forward and losses"),
            (torch.Tensor, "backward", "backward"),
            (agent, "_optimizer_step", "optimiser"),
            (UpdateTelemetry, "add", "telemetry"),
            (UpdateTelemetry, "end_epoch", "telemetry"),
            (UpdateTelemetry, "result", "telemetry"),
            (self.emitter, "emit_ppo_update", "telemetry"),
        )
        with watch.watching_all(watched):
            train(agent, self.collector, self.emitter, Limits(updates, None), lambda: False)
        return dict(watch.seconds)

    def products(self, updates: int) -> float:
        """CPU seconds of some updates more within products of matrices."""
        with profile(activities=[ProfilerActivity.CPU]) as found:
            self.run(updates)
        events = (event for event in found.key_averages() if event.key in PRODUCTS)
        return float(sum(event.self_cpu_time_total for event in events)) / 1e6
