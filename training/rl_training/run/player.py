"""Steps one environment with a trained policy, episode after episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from rl_training.algorithm.ppo import PPOAgent
from rl_training.environments.adapter import TrainingEnvironment
from rl_training.environments.declared import reason_of
from rl_training.environments.report import Report
from rl_training.policy.acting import sample_actions


class RenderError(RuntimeError):
    """The environment failed as it was rendered; the message says where, and how."""


@dataclass(frozen=True, slots=True)
class Played:
    """An episode to its end; ``report`` is what its environment says of it."""

    episode_return: float
    length: int
    report: Report


class Player:
    """Plays a policy in one environment. Actions are sampled as in training, or ``greedy``: the most probable.

    The seed of an episode follows from ``seed`` and its number, so that an episode is the same whichever were
    played before. ``show`` gets what the environment draws of each step as text; None renders nothing.
    """

    def __init__(
        self,
        agent: PPOAgent,
        environment: TrainingEnvironment,
        *,
        seed: int,
        greedy: bool,
        show: Callable[[str], None] | None,
    ) -> None:
        self._network, self._device = agent.network, agent.device
        self._environment = environment
        self._seed = seed
        self._greedy = greedy
        self._show = show
        assert isinstance(environment.vector, SyncVectorEnv), "of make_single"
        self._drawn = environment.vector.envs[0]

    @torch.inference_mode()
    def play(self, number: int) -> Played:
        """Play episode ``number`` to its end. Raises RenderError, and whatever the environment raises."""
        seed, draws = np.random.SeedSequence([self._seed, number]).generate_state(2, np.uint32).tolist()
        generator = torch.Generator().manual_seed(draws)
        state = self._network.initial_state(1)
        observation = self._reset(seed >> 1)
        total, length, over = 0.0, 0, False
        while not over:
            logits, _, state = self._network.step(self._tensor(observation), state)
            actions = self._act(logits, generator)
            observation, reward, terminated, truncated, _ = self._environment.step(actions)
            total, length, over = total + float(reward[0]), length + 1, bool(terminated[0] or truncated[0])
            self._draw()
        return Played(total, length, self._environment.reports.get(0, Report()))

    def _act(self, logits: Tensor, generator: torch.Generator) -> npt.NDArray[np.int64]:
        masks = self._environment.masks()
        layout = self._network.layout
        layout.require_choices(masks)
        noise = torch.ones(1, layout.total)
        if not self._greedy:
            noise.exponential_(generator=generator)
        actions, _ = sample_actions(logits, self._tensor(masks), layout, noise.to(self._device))
        found: npt.NDArray[np.int64] = actions.cpu().numpy()
        return found

    def _reset(self, seed: int) -> npt.NDArray[np.float32]:
        if self._show is None:
            return self._environment.reset(seed)
        try:
            return self._environment.reset(seed)
        except Exception as error:
            # A window without a display, a package that draws and is not there; or its own mistake.
            raise RenderError(f"reset() raised while rendering: {reason_of(error)}") from error

    def _draw(self) -> None:
        if self._show is None:
            return
        try:
            with torch.inference_mode(False):  # an environment may train a network of its own
                drawn: Any = self._drawn.render()
        except Exception as error:  # the same
            raise RenderError(f"render() raised {reason_of(error)}") from error
        if isinstance(drawn, str):
            self._show(drawn)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, device=self._device)
