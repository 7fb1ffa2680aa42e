"""The exporter beside an algorithm: it serves where the algorithm runs, from its first update to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.callbacks import RLlibCallback

from rl_exporter.discovery.identity import Discovery
from rl_exporter.heads import MAXIMUM
from rl_exporter.integrations.rllib.results import UPDATES, ResultRecorder, heads_of
from rl_exporter.integrations.served_run import ServedRun
from rl_exporter.leaving import left_by
from rl_exporter.recorder import LINGER_SECONDS, HeadRecorder
from rl_exporter.server.listen import ListenAddress
from rl_exporter.serving import serve
from rl_exporter.snapshot import RunState


class HeadEntropyCallback(RLlibCallback):
    """Serves ``/metrics`` for an algorithm whose ``learner_class`` is ``HeadPPOTorchLearner``.

    ``config.callbacks(partial(HeadEntropyCallback, "grasp-17", listen="127.0.0.1:28008"))``: RLlib makes one
    wherever it samples, too, and only that of the algorithm serves. The arguments are those of
    ``rl_exporter.serve``; heads of several modules are named ``module/head``. ``verbose=1`` prints the address.

    The run ends with ``algorithm.stop()``: ``failed`` or ``interrupted`` where the last ``train()`` raised,
    else ``completed``. Without ``stop`` it ends with the program.

    ``build_algo`` raises ValueError where the learners measure nothing or names do not fit, and OSError when
    the address is taken. Later errors are counted and logged once; they never reach the training.
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        listen: str | ListenAddress | None = None,
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
        verbose: int = 0,
    ) -> None:
        super().__init__()
        served = partial(
            serve,
            run_id=run_id,
            listen=listen,
            thresholds=thresholds,
            reference=reference,
            actions=actions,
            experiment=experiment,
            linger=linger,
            register=register,
            web_config=web_config,
            allowed_hosts=allowed_hosts,
            notify=notify,
        )
        self._environment = environment
        missing = "nothing is served yet; building the algorithm starts the run"
        self._run = ServedRun(served, None, missing, verbose=bool(verbose))
        self._results: ResultRecorder | None = None
        self._left = RunState.COMPLETED

    @property
    def recorder(self) -> HeadRecorder:
        """Serves the run, and keeps its last snapshot; RuntimeError before the algorithm was built."""
        return self._run.recorder

    def on_algorithm_init(self, *, algorithm: Algorithm, **kwargs: Any) -> None:  # noqa: ARG002 - the interface
        """Serve the run. Raises ValueError and OSError before training."""
        config = algorithm.config
        self._run.start(
            heads_of(algorithm),
            algorithm=type(algorithm).__name__,
            environment=environment_name(config.env) if self._environment is None else self._environment,
            seed="" if config.seed is None else config.seed,
            world_size=max(1, config.num_learners),
        )
        self._results = ResultRecorder(algorithm, self.recorder)
        self._follow(algorithm)

    def on_train_result(self, *, algorithm: Algorithm, result: dict[str, Any], **kwargs: Any) -> None:  # noqa: ARG002 - the interface
        """Record the updates of an iteration. What only this callback reads leaves the result."""
        if self._results is not None:
            self._results.record(result)
            for module in result.get("learners", {}).values():
                if isinstance(module, dict):
                    module.pop(UPDATES, None)

    def _follow(self, algorithm: Algorithm) -> None:
        """Hear of errors of ``train`` and of the end: RLlib has no callback for either."""
        step, cleanup = algorithm.step, algorithm.cleanup

        def followed_step() -> Any:
            try:
                result = step()
            except BaseException as error:
                self._left = left_by(error)
                raise
            self._left = RunState.COMPLETED
            return result

        def followed_cleanup() -> None:
            try:
                cleanup()
            finally:
                self._run.end(self._left)

        algorithm.step, algorithm.cleanup = followed_step, followed_cleanup


def environment_name(environment: str | Callable[..., Any] | None) -> str:
    """What people call an environment: its registered id, or the name of its class."""
    return environment if isinstance(environment, str) else getattr(environment, "__name__", "")
