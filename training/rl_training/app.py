"""Puts a run together from its settings: environment, agent, exporter, display."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from rich.console import Console

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.listen import parse_listen_address
from rl_exporter.metrics import update_values
from rl_exporter.panel.sources import LocalSource
from rl_exporter.payload import PPOUpdateHandler, PPOUpdatePayload
from rl_exporter.server import MetricsServer
from rl_exporter.snapshot import RunInfo, RunState, SanctumSnapshot
from rl_exporter.targets.presence import Presence
from rl_training.checkpoint import Checkpoint, Checkpointer, CheckpointError, Gate, load, prepare
from rl_training.cli import DEFAULT_EPISODES
from rl_training.config import OutputConfig, RunConfig, Settings
from rl_training.display import Display
from rl_training.emitter import Emitter
from rl_training.environments.adapter import EnvironmentSetupError, TrainingEnvironment, make_environment
from rl_training.errors import BadInputError
from rl_training.ppo import PPOAgent, with_multipliers
from rl_training.presence import listening, take_name
from rl_training.recording import RolloutRecorder
from rl_training.rollout import RolloutCollector
from rl_training.signals import StopSignals
from rl_training.trainer import Limits, train
from rl_training.tui import require_panel, train_beside_panel

_LOG = logging.getLogger("rl_training")


class JsonLog:
    """Writes one line per update, flushed, with the names and values of /metrics."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot], file: IO[str]) -> None:
        self._snapshot = snapshot
        self._file = file

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Write the update that the aggregator has just taken over."""
        del payload
        snapshot = self._snapshot()
        line = {"update": snapshot.tamiyo.updates, **update_values(snapshot)}
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()


class Pace:
    """Waits after each update, so that a person can watch."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Wait."""
        del payload
        time.sleep(self._seconds)


def run(settings: Settings) -> int:
    """Train as the settings say; returns the exit status. Raises BadInputError before anything starts."""
    logging.basicConfig(format="rl-train: %(levelname)s: %(message)s")
    if settings.output.tui:
        _require_panel()
    device = _device(settings.run.device)
    # The policy is small: more threads cost more than they bring, and results would depend on their number.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        former = _prepared_checkpoint(settings)
        environment, agent = _agent(settings, device)
        stack.callback(environment.close)
        resumed = _resumed(settings, agent) if former else None
        snapshot = resumed.snapshot if resumed else None
        presence = stack.enter_context(take_name(settings, snapshot.run.run_id if snapshot else None))
        aggregator = SanctumAggregator(
            agent.heads,
            _run_info(settings, agent, presence.run_id),
            entropy_coefficient=agent.config.entropy_coefficient,
            resumed=snapshot,
        )
        job = Job(settings, environment, agent, aggregator, resumed, presence)
        return _run_job(job, stack, signals)


def _require_panel() -> None:
    try:
        require_panel()
    except ValueError as error:
        raise BadInputError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is made of; ``resumed`` is the state that it goes on from."""

    settings: Settings
    environment: TrainingEnvironment
    agent: PPOAgent
    aggregator: SanctumAggregator
    resumed: Checkpoint | None
    presence: Presence


def _run_job(job: Job, stack: ExitStack, signals: StopSignals) -> int:
    output, aggregator = job.settings.output, job.aggregator
    gate = Gate(aggregator.snapshot)
    shown = gate.snapshot if job.settings.run.checkpoint else aggregator.snapshot
    server = stack.enter_context(_server(shown, output.listen))
    console = Console()
    display = Display(aggregator.snapshot, console, quiet=output.quiet or output.tui)
    handlers = _handlers(job, display, stack)
    run_id = job.presence.run_id
    registered = listening(job.presence, server.address, output.register)
    if not output.quiet:
        console.print(f"run {run_id}: {server.url}/metrics{registered}", highlight=False, soft_wrap=True)
    state = RunState.FAILED
    try:
        with display:
            emitter = Emitter(handlers, aggregator.count_record_error)
            training = partial(_train, job, emitter, gate, signals)
            source = LocalSource(aggregator.snapshot, f"{server.url}/metrics")
            state = train_beside_panel(training, source, signals) if output.tui else training()
    except Exception:  # noqa: BLE001 - whatever ends the run, /metrics must say so
        _LOG.exception("the run failed")
    aggregator.set_run_state(state)
    server.scrapers.run_ended(expected=job.presence.listed)
    if job.agent.recorder is not None and output.record_rollouts is not None:
        before = job.resumed.snapshot.tamiyo.updates if job.resumed else 0
        job.agent.recorder.save(output.record_rollouts, before)
    if not output.quiet:
        console.print(display.summary(), f"run {run_id} {state}", highlight=False)
    _linger(server, signals, output, console)
    job.presence.close()  # before the server stops: nobody is to find an address that does not answer
    return 1 if state is RunState.FAILED else 0


def _handlers(job: Job, display: Display, stack: ExitStack) -> list[PPOUpdateHandler]:
    output, snapshot = job.settings.output, job.aggregator.snapshot
    handlers: list[PPOUpdateHandler] = [job.aggregator, display]
    if output.log_json:
        mode = "a" if job.resumed else "w"
        handlers.append(JsonLog(snapshot, stack.enter_context(_opened(output.log_json, "--log-json", mode))))
    if output.record_rollouts:
        _opened(output.record_rollouts, "--record-rollouts").close()
        job.agent.recorder = RolloutRecorder(job.agent.network.layout, job.environment.consulted)
    if output.pace:
        handlers.append(Pace(output.pace))
    return handlers


def _train(job: Job, emitter: Emitter, gate: Gate, signals: StopSignals) -> RunState:
    run, agent = job.settings.run, job.agent
    updates = job.aggregator.snapshot().tamiyo.updates
    # Environments start anew: the same seed again would replay the episodes that were already played.
    seed = run.seed if job.resumed is None else _seed_after(run.seed, updates)
    collector = RolloutCollector(job.environment, agent.network, seed=seed, device=agent.device)
    if job.resumed is not None:
        collector.restore(job.resumed.progress)
    checkpointer = Checkpointer(run.checkpoint, agent, collector, gate) if run.checkpoint else None

    def after_update() -> None:
        if checkpointer is not None:
            checkpointer.write(job.aggregator.snapshot())

    limits = _limits(run)
    return train(
        agent, collector, emitter, limits, signals.received, updates=updates, after_update=after_update
    )


def _seed_after(seed: int, updates: int) -> int:
    return int(np.random.SeedSequence([seed, updates]).generate_state(1, np.uint32)[0] >> 1)


def _prepared_checkpoint(settings: Settings) -> bool:
    """Whether a run goes on; its folder is there."""
    run = settings.run
    if run.checkpoint is None:
        if run.resume:
            raise BadInputError("--resume needs the folder to go on from; give --checkpoint DIR")
        return False
    try:
        prepare(run.checkpoint, resume=run.resume)
    except CheckpointError as error:
        raise BadInputError(str(error)) from error
    return run.resume


def _resumed(settings: Settings, agent: PPOAgent) -> Checkpoint:
    assert settings.run.checkpoint is not None
    try:
        checkpoint = load(settings.run.checkpoint, agent)
    except CheckpointError as error:
        raise BadInputError(str(error)) from error
    agent.restore(checkpoint.agent)
    return checkpoint


def _agent(settings: Settings, device: torch.device) -> tuple[TrainingEnvironment, PPOAgent]:
    run, config = settings.run, settings.learning
    try:
        environment = make_environment(run.env, run.num_envs, settings.environment)
    except EnvironmentSetupError as error:
        raise BadInputError(str(error)) from error
    try:
        heads = with_multipliers(environment.heads, config.entropy_multiplier)
    except ValueError as error:
        environment.close()
        raise BadInputError(f"--entropy-multiplier: {error}") from error
    return environment, PPOAgent(heads, environment.observation_size, config, seed=run.seed, device=device)


@contextmanager
def _server(snapshot: Callable[[], SanctumSnapshot], listen: str) -> Iterator[MetricsServer]:
    server = MetricsServer(snapshot, parse_listen_address(listen))
    try:
        server.start()
    except OSError as error:
        raise BadInputError(str(error)) from error
    try:
        yield server
    finally:
        server.stop()


def _opened(path: Path, option: str, mode: str = "w") -> IO[str]:
    try:
        file: IO[str] = path.open(mode, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"{option} {str(path)!r}: {error.strerror}; give a file that can be written"
        ) from error
    return file


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInputError(f"--device {name!r} is not there: {reason}; give --device cpu") from error
    return device


def _run_info(settings: Settings, agent: PPOAgent, run_id: str) -> RunInfo:
    run = settings.run
    return RunInfo(
        run_id=run_id,
        experiment=run.experiment,
        algorithm="ppo",
        environment=run.env,
        seed=str(run.seed),
        device=str(agent.device),
    )


def _limits(run: RunConfig) -> Limits:
    if run.updates is None and run.episodes is None:
        return Limits(None, DEFAULT_EPISODES)
    return Limits(run.updates, run.episodes)


def _linger(server: MetricsServer, signals: StopSignals, output: OutputConfig, console: Console) -> None:
    """Keep the final state up until recent scrapers have it; a further signal ends this at once."""
    before = signals.count
    hold = output.hold and console.is_terminal and not before
    if hold:
        console.print(f"{server.url}/metrics stays up until Ctrl-C", highlight=False, soft_wrap=True)
    deadline = time.monotonic() + output.linger
    while signals.count == before and (hold or time.monotonic() < deadline):
        if server.scrapers.wait(0.2) and not hold:
            return
        if hold:
            time.sleep(0.2)
