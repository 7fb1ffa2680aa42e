"""Many growing networks as one vector environment, spread over worker processes."""

from __future__ import annotations

import multiprocessing
import signal
import weakref
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_training.action_space import HEAD_NAMES, OPERATIONS_TABLE, SIZES
from rl_training.environments.growing.environment import Actions
from rl_training.environments.growing.observation import OBSERVATION_SIZE, Observation
from rl_training.environments.growing.options import GrowingOptions
from rl_training.environments.growing.worker import Group, Outcome, work
from rl_training.environments.report import stacked

_EXIT_SECONDS = 5.0


class WorkerError(RuntimeError):
    """A worker process failed or died; the message is the worker's traceback, or says how it ended."""


def environment_seed(seed: int, index: int) -> int:
    """Seed of environment ``index`` in a run with ``seed``."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint32)[0])


class GrowingVectorEnv(VectorEnv[Observation, Actions, npt.NDArray[Any]]):
    """``num_envs`` growing networks in ``workers`` processes; 0 workers keep them in this process.

    Environment i of a run with seed s has the seed ``environment_seed(s, i)`` and shares nothing with the
    others, so results do not depend on the number of workers.
    """

    def __init__(self, num_envs: int = 1, **options: Any) -> None:
        self.options = GrowingOptions(**options)
        self.num_envs = num_envs
        self.environment_seed = environment_seed
        self.head_names = HEAD_NAMES
        self.consulted_heads = OPERATIONS_TABLE
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.single_observation_space = gymnasium.spaces.Box(-1.0, 1.0, (OBSERVATION_SIZE,), np.float32)
        self.single_action_space = gymnasium.spaces.MultiDiscrete(list(SIZES))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        parts = np.array_split(np.arange(num_envs), max(1, min(self.options.workers, num_envs)))
        self._bounds = [(int(part[0]), int(part[-1]) + 1) for part in parts]
        self._group: Group | None = None
        self._workers: list[tuple[BaseProcess, Connection]] = []
        # A caller that never closes would hang at exit, where multiprocessing waits for its processes;
        # finalizers run before that.
        self._hang_up = weakref.finalize(self, _hang_up, self._workers)
        if self.options.workers:
            self._workers += [_start(end - begin, options) for begin, end in self._bounds]
        else:
            self._group = Group(num_envs, options)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes. ``seed`` is that of the run, or a list with one seed for each environment.

        Raises WorkerError.
        """
        del options
        seeds: list[int | None] = [None] * self.num_envs
        if isinstance(seed, int):
            seeds = [environment_seed(seed, index) for index in range(self.num_envs)]
        elif seed is not None:
            seeds = seed
        return self._request("reset", seeds).observations, {}

    def step(
        self, actions: Actions
    ) -> tuple[Observation, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], dict[str, Any]]:
        """Step every environment; one whose episode ended starts the next episode within the same step.

        Raises WorkerError.
        """
        outcome = self._request("step", np.asarray(actions))
        infos: dict[str, Any] = {}
        if outcome.final:
            final = np.full(self.num_envs, None, dtype=object)
            for index, observation in outcome.final.items():
                final[index] = observation
            infos = {"final_obs": final, "_final_obs": outcome.terminated.copy()}
            infos |= stacked(outcome.reports, self.num_envs)
        never = np.zeros(self.num_envs, dtype=np.bool_)
        return outcome.observations, outcome.rewards, outcome.terminated, never, infos

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Valid actions now, (num_envs, operations, Σn)."""
        return self._masks

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers."""
        del kwargs
        self._hang_up()

    def _request(self, name: str, argument: Any) -> Outcome:
        if self._group is not None:
            outcome = self._group.reset(argument) if name == "reset" else self._group.step(argument)
        else:
            for index, (begin, end) in enumerate(self._bounds):
                self._send(index, (name, argument[begin:end]))
            answers = [self._receive(index) for index in range(len(self._workers))]
            outcome = _joined(answers, [begin for begin, _ in self._bounds])
        self._masks = outcome.masks
        return outcome

    def _send(self, index: int, request: tuple[str, Any]) -> None:
        try:
            self._workers[index][1].send(request)
        except OSError as error:
            raise self._death(index) from error

    def _receive(self, index: int) -> Outcome:
        try:
            message, outcome = self._workers[index][1].recv()
        except (EOFError, OSError) as error:
            raise self._death(index) from error
        if message is not None:
            raise WorkerError(f"environment worker {index} failed:\n{message}")
        answer: Outcome = outcome
        return answer

    def _death(self, index: int) -> WorkerError:
        process = self._workers[index][0]
        process.join(_EXIT_SECONDS)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        return WorkerError(f"environment worker {index} (process {process.pid}) {how}")


def _start(count: int, options: dict[str, Any]) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=work, args=(theirs, count, options), name="environment-worker", daemon=True
    )
    # Ctrl-C and the end of a terminal (SIGHUP) reach every process of it, and some schedulers send SIGTERM to
    # every process of a job. Only the trainer acts on them: a worker inherits these signals blocked, so not
    # even a signal during its start reaches it. multiprocessing's helper process unblocks them when it starts,
    # so it starts first.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    theirs.close()
    return process, ours


def _hang_up(workers: list[tuple[BaseProcess, Connection]]) -> None:
    """Close the connections, which ends the workers, and kill a worker that does not end by itself."""
    for _, connection in workers:
        connection.close()
    for process, _ in workers:
        process.join(_EXIT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    workers.clear()


def _joined(answers: Sequence[Outcome], begins: Sequence[int]) -> Outcome:
    columns = list(zip(*(answer[:4] for answer in answers), strict=True))
    observations, masks, rewards, terminated = (np.concatenate(column) for column in columns)
    final, reports = (
        _of_all(parts, begins) for parts in ([a.final for a in answers], [a.reports for a in answers])
    )
    return Outcome(observations, masks, rewards, terminated, final, reports)


def _of_all(parts: Sequence[dict[int, Any]], begins: Sequence[int]) -> dict[int, Any]:
    """What each worker says of its own environments, by their index among those of all workers."""
    pairs = zip(begins, parts, strict=True)
    return {begin + index: value for begin, part in pairs for index, value in part.items()}
