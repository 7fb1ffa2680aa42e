"""A small environment for what ``heads`` lacks: heads of one choice, and steps at which little happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

CUES_ID = "rl-cohort/Cues-v0"


class CuesEnv(gymnasium.Env[npt.NDArray[np.float32], npt.NDArray[np.int64]]):
    """Every step shows a cue, and each head is paid for the action that the cue asks of it.

    ``sizes``: choices of each head. ``quiet``: share of the steps with cue 0, which asks for action 0. Cue c
    above 0 asks head h for action ``(c + h) mod n``. ``flaw``: what action 0 of the first head earns at any cue
    beside that, as a flaw in a reward would.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self, sizes: Sequence[int] = (4,), cues: int = 4, quiet: float = 0.0, flaw: float = 0.0, steps: int = 16
    ) -> None:
        self._sizes = np.asarray(sizes)
        self._quiet, self._flaw, self._steps = quiet, flaw, steps
        loud = (1.0 - quiet) / (cues - 1)
        self._chances = np.array([quiet, *[loud] * (cues - 1)]) if quiet else np.full(cues, 1.0 / cues)
        wanted = (np.arange(cues)[:, None] + np.arange(len(sizes))) % self._sizes
        self._wanted = np.where(np.arange(cues)[:, None] > 0, wanted, 0)
        self.head_names = [f"head_{index}" for index in range(len(sizes))]
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (cues,), np.float32)
        self.action_space = gymnasium.spaces.MultiDiscrete(self._sizes)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Start a new episode."""
        super().reset(seed=seed, options=options)
        self._step = 0
        return self._show(), {}

    def step(
        self, action: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pay for the share of the heads that did as asked, and show the next cue."""
        reward = float(np.mean(action == self._wanted[self._cue])) + self._flaw * float(action[0] == 0)
        self._step += 1
        return self._show(), reward, False, self._step >= self._steps, {}

    def _show(self) -> npt.NDArray[np.float32]:
        self._cue = int(self.np_random.choice(len(self._chances), p=self._chances))
        shown: npt.NDArray[np.float32] = np.eye(len(self._chances), dtype=np.float32)[self._cue]
        return shown


def _make(**options: Any) -> CuesEnv:
    return CuesEnv(**options)


def register() -> None:
    """Make ``CUES_ID`` known to Gymnasium in this process."""
    if CUES_ID not in gymnasium.registry:
        gymnasium.register(CUES_ID, _make)
