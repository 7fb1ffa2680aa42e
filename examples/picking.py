"""The environment of the examples: pick an object of one of four sizes from one of nine bins, gently.

And the command line of the short ones.
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

SIZES, BINS, SPEEDS = 4, 9, 3


class Picking(gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.int64]]):
    """Three heads: ``gripper`` must match the observed size, ``arm`` the observed bin, ``speed`` must be slow.

    ``gripper`` and ``arm`` have to learn from the observation. For ``speed`` one action is always best: its
    entropy falls first, and here that is right. Policies may take ``action_masks``: half of the other bins are
    closed, and the largest object leaves no speed but slow.
    """

    head_names = ("gripper", "arm", "speed")

    def __init__(self, episode_steps: int = 20) -> None:
        self.observation_space = spaces.Box(0.0, 1.0, (SIZES + BINS,), np.float32)
        self.action_space = spaces.MultiDiscrete([SIZES, BINS, SPEEDS])
        self._episode_steps = episode_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        self._steps = 0
        return self._next_object(), {}

    def step(
        self, action: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pick once. Each correct head earns a third of the reward."""
        reward = float(np.mean(action == [self._size, self._bin, 0]))
        self._steps += 1
        return self._next_object(), reward, self._steps == self._episode_steps, False, {}

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which actions are valid now, of all heads in one row."""
        return np.concatenate(
            [np.ones(SIZES, bool), self._open, [True] + [self._size < SIZES - 1] * (SPEEDS - 1)]
        )

    def _next_object(self) -> npt.NDArray[np.float32]:
        self._size, self._bin = self.np_random.integers(SIZES), self.np_random.integers(BINS)
        self._open = self.np_random.random(BINS) < 0.5
        self._open[self._bin] = True
        observation = np.zeros(SIZES + BINS, np.float32)
        observation[[self._size, SIZES + self._bin]] = 1.0
        return observation


class NamedPicking(Picking):
    """The same with an action by name for each head, for libraries that keep them apart."""

    def __init__(self, episode_steps: int = 20) -> None:
        super().__init__(episode_steps)
        choices = self.action_space.nvec.tolist()
        self.action_space = spaces.Dict(dict(zip(self.head_names, map(spaces.Discrete, choices), strict=True)))

    def step(
        self, action: dict[str, npt.NDArray[np.int64]]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pick once."""
        return super().step(np.array([action[name] for name in self.head_names]))


def command_line(description: str | None) -> argparse.Namespace:
    """Options of an example."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--total-timesteps", type=int, default=50_000)
    parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
    parser.add_argument("--run-id", help="name of the run; generated when left out")
    return parser.parse_args()
