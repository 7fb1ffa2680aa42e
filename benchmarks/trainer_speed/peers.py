"""The peers: RecurrentPPO of sb3-contrib and PPO of Stable-Baselines3.

Actor and critic have an encoder each, as wide as ours. RecurrentPPO has its default, an LSTM for each of the
two; PPO, which remembers nothing, has a layer of that width in its place. The policy's last layer is as wide as
all modules of our heads together. Neither peer applies masks or reports anything of its heads.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from benchmarks.trainer_speed.setting import Cost, Setting
from rl_training.environments.heads.environment import HeadsVectorEnv

HEADS_HIDDEN = 8 * 32
"""Units of all modules of our heads together."""


class HeadsForPeers(VecEnv):
    """The vector environment ``heads`` itself behind the interface of Stable-Baselines3."""

    def __init__(self, copies: int) -> None:
        self._vector = HeadsVectorEnv(copies)
        super().__init__(copies, self._vector.single_observation_space, self._vector.single_action_space)
        self.render_mode = None

    def reset(self) -> Any:
        """First observations (N, D)."""
        return self._vector.reset(seed=0)[0]

    def step_async(self, actions: Any) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Observations, rewards, ends, and what Stable-Baselines3 wants to know of an ended episode."""
        observations, rewards, _, truncated, infos = self._vector.step(self._actions)
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(truncated):
            told[index] = {
                "terminal_observation": infos["final_obs"][index],
                "TimeLimit.truncated": True,
                "episode": {"r": 0.0, "l": self._vector.options.episode_steps, "t": 0.0},
            }
        return observations, rewards.astype(np.float32), truncated, told

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:  # noqa: ARG002 - of all copies alike
        """The same of every copy."""
        return [getattr(self._vector, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not needed here."""
        raise NotImplementedError

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> Any:
        """Not needed here."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:  # noqa: ARG002 - none is
        """No copy has a wrapper."""
        return [False] * self.num_envs


class Encoder(BaseFeaturesExtractor):
    """As ours: one layer and tanh."""

    def __init__(self, space: gymnasium.spaces.Box, width: int) -> None:
        super().__init__(space, width)
        self._layer = nn.Linear(space.shape[0], width)

    def forward(self, observations: Tensor) -> Tensor:
        """Observations (B, D) to (B, width)."""
        return torch.tanh(self._layer(observations))


class RolloutClock(BaseCallback):
    """Adds up the CPU seconds of rollouts."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def _on_rollout_start(self) -> None:
        self._began = time.process_time()

    def _on_rollout_end(self) -> None:
        self.seconds += time.process_time() - self._began

    def _on_step(self) -> bool:
        return True


class Peer:
    """One of the two peers over the environment ``heads``; the policy is on ``device``.

    Without ``encoder``, the peer's default, its LSTMs see the observations themselves, with half the weights.
    """

    def __init__(
        self, setting: Setting, *, recurrent: bool, encoder: bool = True, device: torch.device | str = "cpu"
    ) -> None:
        own: dict[str, Any] = {
            "features_extractor_class": Encoder,
            "features_extractor_kwargs": {"width": setting.units},
            "share_features_extractor": False,
        }
        memory = [] if recurrent else [setting.units]
        sizes = {"net_arch": {"pi": [*memory, HEADS_HIDDEN], "vf": [*memory, setting.units]}}
        lstm = {"lstm_hidden_size": setting.units} if recurrent else {}
        self._steps = setting.steps
        self._model: Any = (RecurrentPPO if recurrent else PPO)(
            "MlpLstmPolicy" if recurrent else "MlpPolicy",
            HeadsForPeers(setting.environments),
            n_steps=setting.rollout_steps,
            batch_size=setting.steps // setting.minibatches,
            n_epochs=setting.epochs,
            ent_coef=0.01,
            policy_kwargs={**(own if encoder else {}), **sizes, **lstm},
            device=device,
            seed=0,
        )

    def run(self, updates: int) -> Cost:
        """Train for some updates more."""
        clock = RolloutClock()
        began = time.process_time()
        self._model.learn(updates * self._steps, callback=clock, log_interval=10**9, reset_num_timesteps=False)
        return Cost(clock.seconds, time.process_time() - began - clock.seconds)
