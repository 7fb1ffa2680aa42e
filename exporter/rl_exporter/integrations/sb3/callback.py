"""Stable-Baselines3: the entropy of every action head of PPO, A2C and MaskablePPO, from one callback."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "stable_baselines3":
        raise
    raise ImportError(
        "rl_exporter.integrations.sb3 needs Stable-Baselines3; pip install stable-baselines3"
    ) from error


from rl_exporter.discovery.identity import Discovery
from rl_exporter.heads import MAXIMUM
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.sb3.control import SharedCoefficient
from rl_exporter.integrations.sb3.listener import PolicyListener
from rl_exporter.integrations.sb3.policy import (
    Declaration,
    environment_id,
    policy_heads,
    require_every_rollout,
    supported,
)
from rl_exporter.integrations.sb3.reports import ReportWindow, episode_mean, log_heads, logged_numbers
from rl_exporter.integrations.served_run import ServedRun
from rl_exporter.intervention.controller import Mode
from rl_exporter.log import exporter_log
from rl_exporter.payload import HeadMeasurement, PPOUpdatePayload
from rl_exporter.recorder import LINGER_SECONDS, HeadRecorder
from rl_exporter.server.listen import ListenAddress
from rl_exporter.serving import serve

_LOG = exporter_log()


class HeadEntropyCallback(BaseCallback):
    """Serves ``/metrics`` for a model while it learns, one update at a time.

    Entropies are of the distributions that the loss evaluated, so they cost no forward pass; under the masks of
    MaskablePPO, or those that a policy wrote into its logits. Choice entropy and choice share only exist with
    masks. An update that ``target_kl`` stopped in its first epoch is measured at the steps that it visited, a
    random part of its rollout. A gradient norm is that of the head's rows in ``policy.action_net``, before
    clipping. Losses, KL and the like are the values that the model logs. The duration of an update is the time
    from the end of its rollout to the start of the next.

    ``head_names`` default to the environment's ``head_names``, else ``head_0``, …; the head of a Discrete space
    is ``action``. ``thresholds``, ``reference`` and ``actions`` of the heads, and ``run_id``, ``listen``,
    ``experiment``, ``environment`` (default: its registered id), ``linger``, ``register``, ``web_config``,
    ``allowed_hosts`` and ``notify`` are those of ``rl_exporter.serve``. Give ``recorder`` instead to keep a
    server of your own, which this callback then does not end. ``log_heads``: the numbers of each head also go
    to the model's own logger as ``heads/<name>/…``, for TensorBoard and the like.

    ``entropy_targets``, such as ``{"gripper": 0.4}``: an entropy controller holds these heads at these ratios.
    The model has one ``ent_coef`` for all heads, so the head that needs most decides, and every head gets it.
    ``entropy_controller="observe"`` changes nothing and says what it would do. ``ent_coef`` is the base, which
    the model has again after ``learn``.

    The run ends with ``learn``: ``completed``. As a context manager it spans every ``learn`` in the block, and
    an exception that leaves the block makes it ``failed`` or, for Ctrl-C, ``interrupted``. Without a block an
    exception leaves it ``running`` until the program ends.

    ``learn`` raises, before training, ValueError when the model, the action space or the names do not fit, and
    OSError when the address is taken. Later errors are counted and logged once; they never reach the training.
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        listen: str | ListenAddress | None = None,
        head_names: Sequence[str] | None = None,
        thresholds: Mapping[str, tuple[float, float]] | None = None,
        reference: str | float | Mapping[str, str | float] = MAXIMUM,
        actions: Mapping[str, Sequence[str]] | None = None,
        experiment: str = "",
        environment: str | None = None,
        linger: float = LINGER_SECONDS,
        register: Discovery | None = None,
        web_config: Path | str | None = None,
        allowed_hosts: Sequence[str] = (),
        notify: str | Sequence[str] | None = None,
        recorder: HeadRecorder | None = None,
        log_heads: bool = True,
        entropy_targets: Mapping[str, float] | None = None,
        entropy_controller: Mode = "on",
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if recorder is not None and any(
            (run_id is not None, listen, experiment, environment, register, web_config, allowed_hosts, notify)
        ):
            raise ValueError("give either a recorder, or run_id, listen and the like for a new one")
        self._declaration = Declaration(head_names, thresholds or {}, reference, actions or {})
        if recorder is not None and self._declaration.of_heads:
            raise ValueError("declare thresholds, reference and actions with the heads of the recorder")
        served = partial(
            serve,
            run_id=run_id,
            listen=listen,
            experiment=experiment,
            linger=linger,
            register=register,
            web_config=web_config,
            allowed_hosts=allowed_hosts,
            notify=notify,
        )
        missing = "nothing is served yet; learn() starts the run"
        self._run = ServedRun(served, recorder, missing, verbose=bool(verbose))
        self._environment = environment
        self._listener: PolicyListener | None = None
        self._warned = False
        self._log_heads = log_heads
        self._targets, self._mode = dict(entropy_targets or {}), entropy_controller
        self._control: SharedCoefficient | None = None
        self._reports = ReportWindow()
        self._meter: HeadMeter | None = None
        self._listened_to: weakref.ref[BaseAlgorithm] | None = None

    @property
    def recorder(self) -> HeadRecorder:
        """Serves the run, and keeps its last snapshot; RuntimeError before ``learn`` has started it."""
        return self._run.recorder

    def __enter__(self) -> Self:
        self._run.in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_listening()
        self._give_back()
        self._run.left(kind, error, trace)

    def _init_callback(self) -> None:
        require_every_rollout(self)
        declared = self.recorder.heads if self._run.running else None
        self._algorithm = supported(self.model)
        self._forget_other_models()
        self._heads = policy_heads(self._algorithm, self._declaration, declared)
        if self._meter is None:  # another learn() keeps the margins of this one
            self._meter = HeadMeter(
                self._heads, partial_epochs=True, lenient=True, count_error=self._count_error
            )

        self._listened_to = weakref.ref(self.model)
        if self._targets and self._control is None:
            self._control = SharedCoefficient(self._heads, self._targets, self._mode)

    def _on_training_start(self) -> None:
        self._stop_listening()  # a learn() that an exception ended left its taps
        self._start()
        self._guard = ErrorGuard(self.recorder.count_record_error)
        self._steps_seen = self.num_timesteps
        self._episodes = 0
        self._rollout_start = time.perf_counter()
        self._rollout_end: float | None = None
        if self._control is not None:
            self._control.begin()
        with self._guard:
            assert self._meter is not None, "the callback was initialized"
            self._listener = PolicyListener(self._algorithm, self._meter, self._guard)

    def _on_rollout_start(self) -> None:
        self._emit()
        self._give_back()
        self._rollout_start = time.perf_counter()

    def _on_step(self) -> bool:
        with self._guard:
            dones = self.locals["dones"]
            if dones.any():
                self._episodes += int(dones.sum())
                self._reports.take(dones, self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self._rollout_end = time.perf_counter()
        if self._listener is not None:
            with self._guard:
                self._listener.begin_update()
        if self._control is not None:
            self._control.raise_for_update(self._algorithm)

    def _on_training_end(self) -> None:
        self._emit()
        self._stop_listening()
        self._give_back()
        self._run.completed()

    def _start(self) -> None:
        """Serve a run, unless one is running. Raises OSError when the address is taken."""
        model = self._algorithm
        self._run.start(
            self._heads,
            algorithm=type(model).__name__,
            environment=environment_id(model) if self._environment is None else self._environment,
            seed="" if model.seed is None else model.seed,
            device=str(model.device),
        )

    def _forget_other_models(self) -> None:
        """What was collected of one model says nothing of another."""
        if self._listened_to is None or self._listened_to() is self.model:
            return
        self._meter, self._reports = None, ReportWindow()
        if not self._run.running:
            self._control = None

    def _give_back(self) -> None:
        if self._control is not None:
            self._control.give_back()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _emit(self) -> None:
        """Record the update that has just ended, if one has."""
        if self._rollout_end is None:
            return
        update_duration = time.perf_counter() - self._rollout_end
        rollout_duration = self._rollout_end - self._rollout_start
        self._rollout_end = None
        with self._guard:
            measured, control = self._measured(), self._control
            payload = PPOUpdatePayload(
                heads=measured if control is None else control.described(measured),
                environment_steps=self.num_timesteps - self._steps_seen,
                episodes=self._episodes,
                episode_return=episode_mean(self._algorithm, "r"),
                episode_length=episode_mean(self._algorithm, "l"),
                environment_metrics=self._reports.means(),
                entropy_coefficient=self._algorithm.ent_coef if control is None else control.base,
                rollout_duration=rollout_duration,
                update_duration=update_duration,
                **logged_numbers(self._algorithm),
            )
            self._steps_seen, self._episodes = self.num_timesteps, 0
            self.recorder.handler.handle_ppo_update(payload)
            if control is not None:
                control.adjust(self.recorder.snapshot())
            if self._log_heads:
                log_heads(self.logger, payload.heads, self._heads)

    def _measured(self) -> dict[str, HeadMeasurement]:
        """What the update measured of each head; empty, and counted, when that went wrong."""
        measured: dict[str, HeadMeasurement] = {}
        if self._listener is not None:
            with self._guard:
                found = self._listener.end_update()
                measured = {name: found.measurement(name) for name in self._heads.names}
                for name, steps in found.empty_masks.items():
                    self._count_all_masked(name, steps)
        return measured

    def _count_error(self) -> None:
        self.recorder.count_record_error()

    def _count_all_masked(self, name: str, steps: int) -> None:
        self.recorder.count_record_error()
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "head %r: its mask allows no action at %d steps of the rollout, where MaskablePPO samples "
                "uniformly; the head is not measured in such an update; let action_masks() allow an action",
                name,
                steps,
            )
