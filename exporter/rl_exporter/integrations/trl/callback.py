"""A callback of TRL's trainers that serves what they log."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

try:
    from transformers import TrainerCallback
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "transformers":
        raise
    raise ImportError("rl_exporter.integrations.trl needs TRL; pip install trl") from error

from transformers import TrainerControl, TrainerState, TrainingArguments

from rl_exporter.discovery.identity import Discovery
from rl_exporter.heads import START, Head, Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.served_run import ServedRun
from rl_exporter.integrations.trl.log import HEAD, Window, measures_policy, record_arguments, reports
from rl_exporter.log import exporter_log
from rl_exporter.recorder import LINGER_SECONDS, HeadRecorder
from rl_exporter.server.listen import ListenAddress
from rl_exporter.serving import serve

_LOG = exporter_log()


class HeadEntropyCallback(TrainerCallback):
    """Serves ``/metrics`` for a trainer of TRL: one update is one entry of its log.

    The policy has one head, ``token``, of the model's whole vocabulary. All numbers are those that the trainer
    logs (GRPO, RLOO), over all processes, so they cost nothing. It logs every ``logging_steps`` steps;
    TRL's default is 10.

    ``reference`` is the entropy that counts as 1: by default ``"start"``, the median of the first ten updates,
    because the healthy entropy of a language model is a small part of its maximum. ``thresholds`` are (warning,
    critical) of the ratio to it, by default (0.25, 0.1), and (0.5, 0.25) for another reference. ``run_id``,
    ``listen``, ``experiment``, ``environment``, ``linger``, ``register``, ``web_config``, ``allowed_hosts``
    and ``notify`` are those of ``rl_exporter.serve``. Give ``recorder`` instead to keep a server of your own,
    which this callback then does not end. ``verbose=1`` prints where ``/metrics`` is.

    Of several processes the first one alone serves. The run ends with ``train``: ``completed``. As a context
    manager it spans every ``train`` in the block, and an exception that leaves the block makes it ``failed``
    or, for Ctrl-C, ``interrupted``. Without a block an exception leaves it ``running`` until the program ends.

    ``train`` raises, before the first step, ValueError when the model or the head do not fit, and OSError when
    the address is taken. Later errors are counted and logged once; they never reach the training.
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        listen: str | ListenAddress | None = None,
        thresholds: tuple[float, float] | None = None,
        reference: str | float = START,
        experiment: str = "",
        environment: str = "",
        linger: float = LINGER_SECONDS,
        register: Discovery | None = None,
        web_config: Path | str | None = None,
        allowed_hosts: Sequence[str] = (),
        notify: str | Sequence[str] | None = None,
        recorder: HeadRecorder | None = None,
        verbose: int = 0,
    ) -> None:
        given = (run_id is not None, listen, thresholds, experiment, environment, register, web_config)
        if recorder is not None and any((*given, allowed_hosts, notify, reference != START)):
            raise ValueError("give either a recorder, or run_id, listen and the like for a new one")
        served = partial(
            serve,
            run_id=run_id,
            listen=listen,
            experiment=experiment,
            environment=environment,
            linger=linger,
            register=register,
            web_config=web_config,
            allowed_hosts=allowed_hosts,
            notify=notify,
        )
        self._thresholds: tuple[float | None, float | None] = thresholds or (None, None)
        self._reference = reference
        missing = "nothing is served; train() starts the run, in the first process alone"
        self._run = ServedRun(served, recorder, missing, verbose=bool(verbose))
        self._serves = False
        self._warned = False

    @property
    def recorder(self) -> HeadRecorder:
        """Serves the run, keeps its last snapshot. RuntimeError before ``train`` and in other processes."""
        return self._run.recorder

    def __enter__(self) -> Self:
        self._run.in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.left(kind, error, trace)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Start the run. Raises ValueError and OSError as the class says."""
        self._serves = state.is_world_process_zero
        if not self._serves:
            return
        warning, critical = self._thresholds
        size = vocabulary_size(model)
        head = Head(HEAD, size, warning=warning, critical=critical, reference=self._reference)
        self._start(head, args)
        served = self.recorder.heads.named(HEAD)
        if served.choices != head.choices:
            raise ValueError(
                f"head {HEAD!r} of the recorder has {served.choices} choices, the model's vocabulary "
                f"{head.choices}; declare the head with that number"
            )
        self._guard = ErrorGuard(self.recorder.count_record_error)
        self._reports: dict[str, float] = {}
        self._no_tokens = False
        self._logged_step, self._completions = state.global_step, 0
        self._tokens_seen = state.num_input_tokens_seen

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the completions that a forward and backward pass generated before."""
        if self._serves and state.num_input_tokens_seen != self._tokens_seen:
            # The trainer adds up tokens whenever it generates, and generates batches of one size.
            self._tokens_seen = state.num_input_tokens_seen
            self._completions += getattr(args, "generation_batch_size", 0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same for the last pass of an optimiser step."""
        self.on_substep_end(args, state, control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record an update, if the log is one."""
        if self._serves and logs and measures_policy(logs):
            with self._guard:
                self._record(args, state, logs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """End the run as completed, unless a block spans it."""
        self._serves = False
        self._run.completed()

    def _record(self, args: TrainingArguments, state: TrainerState, logs: dict[str, Any]) -> None:
        window = Window(state.global_step - self._logged_step, self._completions)
        self._logged_step, self._completions = state.global_step, 0
        if "completions/clipped_ratio" in logs and getattr(args, "mask_truncated_completions", False):
            # Truncated completions count nowhere then; the entropy of no token at all is logged as 0.
            self._no_tokens = logs["completions/clipped_ratio"] == 1.0
        if "entropy" not in logs:
            self._warn(args)
        # Steps that generate nothing log no rewards: those of the last generation stay.
        self._reports |= reports(logs, penalized=bool(getattr(args, "beta", 0.0)))
        self.recorder.record(
            **record_arguments(logs, window, entropy=not self._no_tokens),
            environment_metrics=dict(self._reports),
        )

    def _warn(self, args: TrainingArguments) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "the trainer of %s logs no entropy, so the head %r is not measured; GRPO and RLOO log it",
                type(args).__name__,
                HEAD,
            )

    def _start(self, head: Head, args: TrainingArguments) -> None:
        """Serve a run, unless one is running. Raises OSError when the address is taken."""
        self._run.start(
            Heads([head]),
            algorithm=type(args).__name__.removesuffix("Config"),
            seed=args.seed,
            device=str(args.device),
            world_size=args.world_size,
        )


def vocabulary_size(model: Any) -> int:
    """The number of tokens that a model chooses from. Raises ValueError where its config does not say."""
    config = getattr(model, "config", None)
    text = getattr(config, "get_text_config", lambda: config)()
    size = getattr(text, "vocab_size", None)
    if not isinstance(size, int) or size < 1:
        raise ValueError(
            f"the config of {type(model).__name__} has vocab_size {size!r}; "
            "give a language model of transformers"
        )
    return size
