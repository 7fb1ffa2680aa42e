"""A worker process, which steps some of the environments for the trainer."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rl_training.environments.growing.environment import Actions, GrowingNetworkEnv
from rl_training.environments.growing.observation import Observation
from rl_training.environments.report import Report


class Outcome(NamedTuple):
    """What a reset or step returned, one row for each environment.

    ``final`` maps an environment whose episode ended to the last observation of that episode, and ``reports``
    to what it said of it.
    """

    observations: Observation
    masks: npt.NDArray[np.bool_]
    rewards: npt.NDArray[np.float64]
    terminated: npt.NDArray[np.bool_]
    final: dict[int, Observation]
    reports: dict[int, Report]


class Group:
    """Some environments, stepped one after the other; a new episode follows an ended one in the same step."""

    def __init__(self, count: int, options: Mapping[str, Any]) -> None:
        self._environments = [GrowingNetworkEnv(**options) for _ in range(count)]

    def reset(self, seeds: Sequence[int | None]) -> Outcome:
        """Start an episode in each environment; None continues with the environment's generator."""
        pairs = zip(self._environments, seeds, strict=True)
        observations = [environment.reset(seed=seed)[0] for environment, seed in pairs]
        count = len(observations)
        return self._outcome(observations, np.zeros(count), np.zeros(count, dtype=np.bool_), {}, {})

    def step(self, actions: Actions) -> Outcome:
        """Step each environment."""
        observations, final, reports = [], {}, {}
        rewards = np.zeros(len(actions))
        terminated = np.zeros(len(actions), dtype=np.bool_)
        for index, (environment, action) in enumerate(zip(self._environments, actions, strict=True)):
            observation, rewards[index], terminated[index], _, info = environment.step(action)
            if terminated[index]:
                final[index], reports[index] = observation, Report.of(info)
                observation = environment.reset()[0]
            observations.append(observation)
        return self._outcome(observations, rewards, terminated, final, reports)

    def _outcome(
        self,
        observations: list[Observation],
        rewards: npt.NDArray[np.float64],
        terminated: npt.NDArray[np.bool_],
        final: dict[int, Observation],
        reports: dict[int, Report],
    ) -> Outcome:
        masks = np.stack([environment.action_masks() for environment in self._environments])
        return Outcome(np.stack(observations), masks, rewards, terminated, final, reports)


def work(connection: Connection, count: int, options: Mapping[str, Any]) -> None:
    """Serve ``reset`` and ``step`` requests until the connection closes, however the trainer ends."""
    # Workers and trainer share the cores; more threads would only make them wait for each other.
    torch.set_num_threads(1)
    try:
        group = Group(count, options)
        while True:
            name, argument = connection.recv()
            connection.send((None, group.reset(argument) if name == "reset" else group.step(argument)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except BaseException:  # noqa: BLE001 - the trainer reports it, whatever it was
        _report(connection, traceback.format_exc())


def _report(connection: Connection, message: str) -> None:
    try:
        connection.send((message, None))
    except OSError:
        return
