"""Adapts any environment to what the trainer needs: vectors, flat observations, named heads, masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rl_exporter.heads import Heads
from rl_training.action_space import HEADS, BoolArray
from rl_training.environments.declared import (
    EnvironmentSetupError,
    checked_masks,
    declared_heads,
    declared_masks,
    reason_of,
    require_a_choice,
)
from rl_training.environments.growing.environment import GrowingNetworkEnv
from rl_training.environments.growing.vector import GrowingVectorEnv
from rl_training.environments.heads.environment import HeadsEnv, HeadsVectorEnv
from rl_training.environments.report import Report, Reporting, reports_of
from rl_training.environments.scaling import ObservationScale

_LOG = logging.getLogger("rl_training")

_OURS: Mapping[str, Callable[..., VectorEnv[Any, Any, Any]]] = MappingProxyType(
    {"growing-network": GrowingVectorEnv, "heads": HeadsVectorEnv}
)
"""This project's environments by name; each takes the number of copies and its options."""

OUR_SINGLES: Mapping[str, Callable[..., gymnasium.Env[Any, Any]]] = MappingProxyType(
    {"growing-network": GrowingNetworkEnv, "heads": HeadsEnv}
)
"""The same as single environments; each takes its options."""

_SETUP_ERRORS = (Exception, SystemExit)
"""The constructor of an environment raises anything, and so does its module; a script in its place may exit."""


class TrainingEnvironment:
    """A vector of N environments: heads, flat observations (N, D), masks (N, K, Σn), steps.

    An environment whose episode ends starts the next one within the same step (SAME_STEP of Gymnasium), so
    that no step of a rollout is padding.
    """

    def __init__(self, vector: VectorEnv[Any, Any, Any], heads: Heads) -> None:
        self.vector = vector
        self.heads = heads
        self.num_envs = vector.num_envs
        self.observation_size = int(np.prod(vector.single_observation_space.shape or (1,)))
        self.scale = ObservationScale(vector.single_observation_space)
        self._single_head = isinstance(vector.single_action_space, spaces.Discrete)
        self._all_valid = np.ones((self.num_envs, 1, sum(head.choices for head in heads)), dtype=np.bool_)
        # A table of one row says that every operation consults every head, as if there were none.
        table = getattr(vector, "consulted_heads", None)
        self.consulted: BoolArray | None = table if table is not None and len(table) > 1 else None
        # Of each copy, where it has masks: a wrapper's, else the environment's own.
        self._copy_masks: list[Callable[[], Any]] = []
        if isinstance(vector, SyncVectorEnv):
            found = [declared_masks(env) for env in vector.envs]
            self._copy_masks = [masks for masks in found if masks is not None]
        # A vector environment of its own kind gives the masks of all copies in one call.
        self._native_masks = getattr(vector, "action_masks", None)
        self._seed: Callable[[int, int], int] = getattr(vector, "environment_seed", int.__add__)
        self.reports: Mapping[int, Report] = {}
        """Of the last step: what the copies whose episode ended with it say, by index."""

    @torch.inference_mode(False)  # an environment may train a network of its own
    def reset(self, seed: int, first: int = 0) -> npt.NDArray[np.float32]:
        """First observations (N, D). Each environment's seed follows from ``seed`` and its index.

        ``first`` is the index of the first of these environments among those of all ranks, so that the number
        of ranks does not change the seed of an environment.
        """
        # Vector environments accept a list of seeds, although their base class declares a single one.
        seeds: Any = [self._seed(seed, index) for index in range(first, first + self.num_envs)]
        return self._flat(self.vector.reset(seed=seeds)[0])

    @torch.inference_mode(False)  # an environment may train a network of its own
    def step(
        self, actions: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], BoolArray, BoolArray, npt.NDArray[np.float32]]:
        """Take actions (N, H); returns next observations, rewards, terminated, truncated, final observations.

        Where an episode ended at i, row i of the final observations is its last observation; elsewhere it is
        the next observation.
        """
        # A copy: an environment may write into its action, and the caller records what the policy chose.
        observations, rewards, terminated, truncated, infos = self.vector.step(
            (actions[:, 0] if self._single_head else actions).copy()
        )
        following = self._flat(observations)
        # The observations after an ended episode are the first of the next one; the value of a truncated step
        # needs the last of the ended one, which Gymnasium keeps in ``final_obs``.
        final = following
        ended = np.asarray(terminated) | np.asarray(truncated)
        self.reports = reports_of(infos, ended) if ended.any() else {}
        if ended.any() and "final_obs" in infos:
            final = following.copy()
            for index in np.flatnonzero(ended):
                last = np.asarray(infos["final_obs"][index], dtype=np.float32).reshape(-1)
                final[index] = self.scale.scaled(last)
        # What is too large for float32 is infinite, and named by the collector.
        with np.errstate(over="ignore"):
            reward = np.asarray(rewards, np.float32)
        return following, reward, np.asarray(terminated), np.asarray(truncated), final

    @torch.inference_mode(False)  # an environment may train a network of its own
    def masks(self) -> BoolArray:
        """Valid actions now, (N, K, Σn): K operations, or K = 1 where masks do not depend on the operation."""
        if self._native_masks is not None:
            masks = np.asarray(self._native_masks(), dtype=np.bool_)
        elif self._copy_masks:
            masks = np.stack([checked_masks(masks(), self.heads) for masks in self._copy_masks])
        else:
            return self._all_valid
        return masks[:, None] if masks.ndim == 2 else masks

    def try_first(self) -> None:
        """Raise EnvironmentSetupError, before anything starts, where the first copy cannot start an episode.

        Its reset() or action_masks() raises, or what they return does not fit.
        """
        if not isinstance(self.vector, SyncVectorEnv):
            return
        try:
            shape = np.shape(self.vector.envs[0].reset(seed=0)[0])
            given = self._copy_masks[0]() if self._copy_masks else None
        except Exception as error:
            raised_by = "reset() or action_masks()" if self._copy_masks else "reset()"
            raise EnvironmentSetupError(f"{raised_by} raised {reason_of(error)}") from error
        declared = self.vector.single_observation_space.shape
        if shape != declared:
            raise EnvironmentSetupError(
                f"reset() returned an observation of {shape}, flattened; "
                f"its observation_space declares {declared}; make them agree"
            )
        if self._copy_masks:
            require_a_choice(checked_masks(given, self.heads), self.heads)

    def close(self) -> None:
        """End worker processes and free what the environments hold; what that raises is only logged."""
        try:
            self.vector.close()
        except Exception as error:  # noqa: BLE001 - whatever it was
            _LOG.warning("close() of the environment raised %s", reason_of(error))

    def _flat(self, observations: Any) -> npt.NDArray[np.float32]:
        return self.scale.scaled(np.asarray(observations, dtype=np.float32).reshape(self.num_envs, -1))


def make_environment(name: str, num_envs: int, arguments: Mapping[str, Any]) -> TrainingEnvironment:
    """One of this project's environments, or any registered Gymnasium id. Raises EnvironmentSetupError."""
    if name in _OURS:
        try:
            return TrainingEnvironment(_OURS[name](num_envs, **arguments), HEADS)
        except _SETUP_ERRORS as error:
            raise _cannot_be_made(name, error) from error
    try:
        vector = SyncVectorEnv(
            [lambda: _flat_observations(gymnasium.make(name, **arguments)) for _ in range(num_envs)],
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
    except _SETUP_ERRORS as error:
        raise _cannot_be_made(name, error) from error
    with _named(name, vector):
        environment = TrainingEnvironment(vector, _heads_of(vector))
        environment.try_first()
    return environment


@contextmanager
def _named(name: str, vector: VectorEnv[Any, Any, Any]) -> Iterator[None]:
    """Close the environments where they cannot be used, and name them in the error."""
    try:
        yield
    except EnvironmentSetupError as error:
        vector.close()
        raise EnvironmentSetupError(f"environment {name!r}: {error}") from error


def make_single(name: str, arguments: Mapping[str, Any], *, render: bool = False) -> TrainingEnvironment:
    """One copy of an environment, which starts no episode by itself, so that the last step of one can be seen.

    ``render``: as text where the environment can, else in a window. Raises EnvironmentSetupError.
    """
    environment = _single(name, arguments)
    # Tried without a picture: where there is no display, the environment itself may be sound.
    if name not in OUR_SINGLES:
        with _named(name, environment.vector):
            environment.try_first()
    if not render or "render_mode" in arguments:
        return environment
    with closing(environment):
        assert isinstance(environment.vector, SyncVectorEnv)
        mode = _render_mode(name, environment.vector.envs[0])
    return _single(name, {**arguments, "render_mode": mode})


def _single(name: str, arguments: Mapping[str, Any]) -> TrainingEnvironment:
    own = OUR_SINGLES.get(name)
    made = own or partial(gymnasium.make, name)
    try:
        vector = SyncVectorEnv(
            [lambda: _flat_observations(made(**arguments))], autoreset_mode=AutoresetMode.DISABLED
        )
    except _SETUP_ERRORS as error:
        raise _cannot_be_made(name, error) from error
    with _named(name, vector):
        return TrainingEnvironment(vector, HEADS if own is not None else _heads_of(vector))


def _render_mode(name: str, environment: gymnasium.Env[Any, Any]) -> str:
    modes = environment.metadata.get("render_modes") or []
    if "ansi" in modes:
        return "ansi"
    # Gymnasium shows the pictures of an environment that has no window in one.
    if {"human", "rgb_array"} & set(modes):
        return "human"
    raise EnvironmentSetupError(f"environment {name!r} cannot be rendered; leave --render out")


def _cannot_be_made(name: str, error: Exception | SystemExit) -> EnvironmentSetupError:
    if isinstance(error, EnvironmentSetupError):
        return error
    if name in _OURS and isinstance(error, TypeError | ValueError):
        return EnvironmentSetupError(f"environment {name!r}: {error}")
    # Gymnasium's own errors are sentences for people.
    reason = " ".join(str(error).split()) if isinstance(error, gymnasium.error.Error) else reason_of(error)
    remedy = "correct the environment or its --env-arg"
    if isinstance(error, gymnasium.error.Error | ImportError):
        remedy = f"give --env {', '.join(_OURS)} or a registered Gymnasium id"
    return EnvironmentSetupError(f"environment {name!r} cannot be made: {reason}; {remedy}")


def _flat_observations(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return Reporting(gymnasium.wrappers.FlattenObservation(env))


def _heads_of(vector: SyncVectorEnv) -> Heads:
    space = vector.single_action_space
    # A space that starts elsewhere than at 0 would need a shift of every action.
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return declared_heads(vector.envs[0], [int(space.n)], ["action"])
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return declared_heads(vector.envs[0], space.nvec.tolist(), None)
    shown = " ".join(str(space).split())[:200]
    raise EnvironmentSetupError(f"action space {shown}; the policy needs MultiDiscrete or Discrete, from 0")
