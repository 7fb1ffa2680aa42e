"""Runs of the peers that learn: Stable-Baselines3 and sb3-contrib, with their defaults or other settings."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.learning_runs.log import EPISODES, RETURN, STEPS, Made, digest, write_log
from benchmarks.learning_runs.rows import AS_OURS, ROOT, Row
from benchmarks.learning_runs.sb3_environment import make
from rl_training.algorithm.episodes import WINDOW
from rl_training.config import PPOConfig, RunConfig

POINTS = 200
"""Points of a curve."""

_ALGORITHMS: Mapping[str, type[BaseAlgorithm]] = MappingProxyType(
    {"PPO": PPO, "MaskablePPO": MaskablePPO, "RecurrentPPO": RecurrentPPO}
)


@dataclass(frozen=True, slots=True)
class _Peer:
    """An algorithm with its defaults, with the settings of ``rl-train``, or with short rollouts."""

    algorithm: str
    num_envs: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def named(cls, who: str) -> _Peer:
        """The peer of a row."""
        algorithm, _, settings = who.partition(" ")
        if not settings:
            return cls(algorithm)
        if settings == AS_OURS:
            return cls(algorithm, RunConfig().num_envs, _our_settings())
        envs, steps = map(int, settings.split("x"))
        return cls(algorithm, envs, {"n_steps": steps, "batch_size": envs * steps // 4, "n_epochs": 8})

    def environments(self, row: Row) -> DummyVecEnv:
        """Its environments; an algorithm without masks is shown them."""

        def one() -> Monitor[Any, Any]:
            return Monitor(make(row.environment, row.arguments, show_masks=self.algorithm == "RecurrentPPO"))

        return DummyVecEnv([one] * self.num_envs)

    def model(self, environments: DummyVecEnv, seed: int) -> BaseAlgorithm:
        """The algorithm with fresh parameters."""
        policy = "MlpLstmPolicy" if self.algorithm == "RecurrentPPO" else "MlpPolicy"
        options = dict(self.options)
        if "learning_rate" in options:
            rate = options["learning_rate"]
            options["learning_rate"] = lambda left: rate * left
        return _ALGORITHMS[self.algorithm](policy, environments, seed=seed, device="cpu", **options)


def _our_settings() -> Mapping[str, Any]:
    """The defaults of ``rl-train``, as a peer names them. Its learning rate falls on a line to 0, as ours.

    The peers have no schedule of the entropy bonus: it stays what ours is at the start.
    """
    ours = PPOConfig()
    assert ours.learning_rate_schedule == "linear"
    return {
        "n_steps": ours.rollout_steps,
        "batch_size": RunConfig().num_envs * ours.rollout_steps // ours.minibatches,
        "n_epochs": ours.epochs,
        "learning_rate": ours.learning_rate,
        "ent_coef": ours.entropy_coefficient,
        "gamma": ours.gamma,
        "gae_lambda": ours.gae_lambda,
        "clip_range": ours.clip,
        "vf_coef": ours.value_coefficient,
        "max_grad_norm": ours.max_gradient_norm,
    }


_PACKAGES = ("stable-baselines3", "sb3-contrib", "torch")


def made(row: Row, who: str, seed: int) -> Made:
    """How such a run is made."""
    peer = _Peer.named(who)
    settings = {
        "environment": {"name": row.environment, **row.arguments},
        "environments": peer.num_envs,
        "options": dict(peer.options),
        "steps": row.steps,
        "packages": {package: version(package) for package in _PACKAGES},
    }
    return Made(row.name, who, (), seed, settings, _sources(row))


def _sources(row: Row) -> str:
    """Digest of the adapter, and of the environment where it is one of this project's."""
    folder = ROOT / "training/rl_training/environments" / row.environment.removesuffix("-network")
    own = [folder] if folder.is_dir() else []
    return digest([*own, ROOT / "benchmarks/learning_runs/sb3_environment.py"])


def train(row: Row, who: str, seed: int, log: Path) -> None:
    """Train one run for exactly the steps of the row."""
    torch.set_num_threads(1)
    how = made(row, who, seed)
    environments = _Peer.named(who).environments(row)
    curve = _Curve(row.steps)
    try:
        _Peer.named(who).model(environments, seed).learn(row.steps, callback=curve)
    finally:
        environments.close()
    write_log(log, how, curve.points)


class _Curve(BaseCallback):
    """Keeps the mean return of the last 100 finished episodes, and ends the run at its last step.

    Without that end a peer would get whole rollouts, and so up to 2,048 steps more than it should.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []
        self._steps = steps
        self._next = 0
        self._returns: deque[float] = deque(maxlen=WINDOW)
        self._episodes = 0

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self._returns.append(float(info["episode"]["r"]))
                self._episodes += 1
        over = self.num_timesteps >= self._steps
        if self._returns and (over or self.num_timesteps >= self._next):
            self._next = self.num_timesteps + self._steps // POINTS
            mean = float(np.mean(self._returns))
            self.points.append({STEPS: self.num_timesteps, EPISODES: self._episodes, RETURN: mean})
        return not over
