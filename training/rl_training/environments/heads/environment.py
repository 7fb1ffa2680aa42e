"""The cheap environment ``heads``: eight heads, random masks, exactly known best and uniform returns.

The vector form computes in NumPy; the single form is a vector of one, so both return the same numbers.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_training.action_space import CANONICAL, HEAD_NAMES, OFFSETS, SEGMENT, SIZES, TOTAL, BoolArray
from rl_training.environments.heads.rewards import (
    VALID_SHARE,
    HeadsOptions,
    consulted_table,
    good_actions,
    reward_weights,
    safe_column,
    uniform_step_reward,
)

Observations = npt.NDArray[np.float32]
Actions = npt.NDArray[np.int64]
_EPISODES_PER_BLOCK = 16


class HeadsVectorEnv(VectorEnv[Observations, Actions, npt.NDArray[Any]]):
    """``num_envs`` copies, stepped together. Each has its own generator.

    A copy draws the numbers of sixteen episodes at a time, because calls of a generator in each step would take
    longer than the step.
    """

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        self.options = HeadsOptions(**options)
        self.num_envs = num_envs
        self.head_names = HEAD_NAMES
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        width = self.options.contexts + self.options.noise
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.single_action_space = gymnasium.spaces.MultiDiscrete(list(SIZES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.consulted_heads = consulted_table(self.options)
        self._good = good_actions(self.options)
        self._weights = reward_weights(self.options)
        self._safe = safe_column(self.options)
        self._unused = ~self.consulted_heads[:, SEGMENT]
        self._rows = np.arange(num_envs)
        self._generators = [np.random.default_rng() for _ in range(num_envs)]
        self._block_steps = self.options.episode_steps * _EPISODES_PER_BLOCK
        self._position = 0

    @property
    def best_return(self) -> float:
        """Return of an episode in which every action hits."""
        return float(self.options.episode_steps)

    @property
    def uniform_return(self) -> float:
        """Expected return of an episode under uniformly random valid actions."""
        return self.options.episode_steps * uniform_step_reward(self.options)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes; environment i is seeded with seed + i."""
        del options
        if seed is not None:
            seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            self._generators = [np.random.default_rng(value) for value in seeds]
        self._draw_block()
        return self._observe(0), {}

    def step(
        self, actions: Actions
    ) -> tuple[Observations, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Step every environment; one whose episode ended starts the next episode within the same step."""
        actions = np.asarray(actions)
        contexts = self._contexts[self._position]
        flat = actions + OFFSETS
        row = actions[:, 0] if len(self._weights) > 1 else np.zeros_like(self._rows)
        hit = self._good[contexts[:, None], flat] & self._masks[self._position][self._rows[:, None], flat]
        rewards = (hit * self._weights[row]).sum(axis=1)
        if self._safe is not None:  # the only head that is paid, so that its weight is 1
            rewards += self.options.safe_pay * (flat == self._safe).any(axis=1)
        self._position += 1
        ended = self._position % self.options.episode_steps == 0
        truncated = np.full(self.num_envs, ended)
        infos: dict[str, Any] = {}
        if ended:
            final = np.empty(self.num_envs, dtype=object)
            final[:] = list(self._observe(self._position))
            infos = {"final_obs": final, "_final_obs": truncated.copy()}
            if self._position == self._block_steps:
                self._draw_block()
        return self._observe(self._position), rewards, np.zeros_like(truncated), truncated, infos

    def action_masks(self) -> BoolArray:
        """Valid actions now: (num_envs, Σn), or (num_envs, operations, Σn) for ``consult=table``."""
        masks: BoolArray = self._masks[self._position]
        if self.options.consult == "all":
            return masks
        return np.where(self._unused, CANONICAL, masks[:, None, :])

    def _draw_block(self) -> None:
        """Draw contexts, masks and noise of the next episodes, each environment from its generator."""
        steps = self._block_steps + 1
        shown = np.empty((steps, self.num_envs), dtype=np.int64)
        uniform = np.empty((steps, self.num_envs, TOTAL))
        forced = np.empty((steps, self.num_envs, TOTAL))
        noise = np.empty((steps, self.num_envs, self.options.noise), dtype=np.float32)
        for index, generator in enumerate(self._generators):
            shown[:, index] = generator.integers(self.options.contexts, size=steps)
            uniform[:, index] = generator.random((steps, TOTAL))
            forced[:, index] = generator.random((steps, TOTAL))
            noise[:, index] = generator.standard_normal((steps, self.options.noise), dtype=np.float32)
        self._contexts = shown
        if self.options.delay:
            self._contexts = np.roll(shown, 1, axis=0)
            self._contexts[:: self.options.episode_steps] = 0
        # One good action of each head, drawn at random, is always valid: if a step offered no hit, the best
        # return would depend on luck.
        good = self._good[self._contexts]
        ranked = np.where(good, forced, -1.0)
        best = np.maximum.reduceat(ranked, OFFSETS, axis=-1)
        self._masks = (uniform < VALID_SHARE) | (good & (ranked == best[..., SEGMENT]))
        if self._safe is not None:
            self._masks[..., self._safe] = True
        self._observations = np.concatenate(
            [np.eye(self.options.contexts, dtype=np.float32)[shown], noise], axis=-1
        )
        self._position = 0

    def _observe(self, position: int) -> Observations:
        observations: Observations = self._observations[position].copy()
        return observations


class HeadsEnv(gymnasium.Env[Observations, Actions]):
    """The same environment as a single Gymnasium environment."""

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, **options: Any) -> None:
        self._vector = HeadsVectorEnv(1, **options)
        self._next_episode: Observations | None = None
        self.head_names = HEAD_NAMES
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode."""
        super().reset(seed=seed)
        if seed is None and self._next_episode is not None:
            observation, self._next_episode = self._next_episode, None
            return observation, {}
        self._next_episode = None
        observations, infos = self._vector.reset(seed=seed, options=options)
        return observations[0], infos

    def step(self, action: Actions) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Step once; at the end of an episode the observation is its final one."""
        observations, rewards, _, truncated, infos = self._vector.step(np.asarray(action)[None])
        observation = observations[0]
        if truncated[0]:
            self._next_episode, observation = observation, infos["final_obs"][0]
        return observation, float(rewards[0]), False, bool(truncated[0]), {}

    def action_masks(self) -> BoolArray:
        """Valid actions now, (Σn,) or (operations, Σn)."""
        masks: BoolArray = self._vector.action_masks()[0]
        return masks
