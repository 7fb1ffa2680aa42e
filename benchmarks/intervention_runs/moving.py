"""The environment ``heads`` whose paid action becomes another one in the midst of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rl_training.action_space import HEAD_NAMES, OFFSETS, SIZES
from rl_training.environments.heads.environment import Actions, HeadsVectorEnv, Observations

PAID_AT_FIRST = 1
"""The action of the head that ``single_action`` pays."""

FORMER_PAY = 0.6
"""What the action that was paid before goes on to pay: enough that nothing drives a policy away from it."""


class MovingTargetEnv(HeadsVectorEnv):
    """One action of ``paid_head`` is paid in every state; after ``moves_after`` steps another one pays more.

    Every action of the head is always valid: where masks hide the paid action now and then, they make the
    policy explore, whatever its entropy.
    """

    def __init__(self, num_envs: int, paid_head: str, moves_after: int) -> None:
        self._head = HEAD_NAMES.index(paid_head)
        self._moves_after, self._steps = moves_after, 0
        super().__init__(num_envs, paid_head=paid_head, single_action=True)

    def step(
        self, actions: Actions
    ) -> tuple[Observations, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Step every environment; what pays depends on how many steps there were."""
        former = np.asarray(actions)[:, self._head] == PAID_AT_FIRST
        moved = self._steps >= self._moves_after
        if self._steps == self._moves_after:
            self._move()
        self._steps += 1
        observations, rewards, terminated, truncated, infos = super().step(actions)
        return observations, rewards + FORMER_PAY * (former & moved), terminated, truncated, infos

    def _move(self) -> None:
        first, choices = int(OFFSETS[self._head]), SIZES[self._head]
        good = self._good.copy()
        good[:, first : first + choices] = np.roll(good[:, first : first + choices], choices // 2, axis=1)
        self._good = good

    def _draw_block(self) -> None:
        super()._draw_block()
        first = int(OFFSETS[self._head])
        self._masks[..., first : first + SIZES[self._head]] = True
