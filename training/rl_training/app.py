"""Puts a run together from its options: environment, agent, exporter, display."""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import torch
from rich.console import Console

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.metrics import update_values
from rl_exporter.names import generated_run_id
from rl_exporter.panel.sources import LocalSource
from rl_exporter.payload import PPOUpdateHandler, PPOUpdatePayload
from rl_exporter.server import MetricsServer
from rl_exporter.snapshot import RunInfo, RunState, SanctumSnapshot
from rl_training.cli import DEFAULT_EPISODES
from rl_training.config import PPOConfig
from rl_training.display import Display
from rl_training.emitter import Emitter
from rl_training.environments.adapter import EnvironmentSetupError, TrainingEnvironment, make_environment
from rl_training.ppo import PPOAgent, with_multipliers
from rl_training.recording import RolloutRecorder
from rl_training.rollout import RolloutCollector
from rl_training.signals import StopSignals
from rl_training.trainer import Limits, train
from rl_training.tui import require_panel, train_beside_panel

_LOG = logging.getLogger("rl_training")


class BadInputError(ValueError):
    """Something the user gave is not possible; the message names it, the reason and the remedy."""


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


def run(options: argparse.Namespace) -> int:
    """Train as the options say; returns the exit status. Raises BadInputError before anything starts."""
    logging.basicConfig(format="rl-train: %(levelname)s: %(message)s")
    if options.tui:
        _require_panel()
    device = _device(options.device)
    # The policy is small: more threads cost more than they bring, and results would depend on their number.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        environment, agent = _agent(options, device)
        stack.callback(environment.close)
        info = _run_info(options, agent)
        aggregator = SanctumAggregator(agent.heads, info, entropy_coefficient=options.entropy_coef)
        server = stack.enter_context(_server(aggregator, options))
        console = Console()
        display = Display(aggregator.snapshot, console, quiet=options.quiet or options.tui)
        handlers: list[PPOUpdateHandler] = [aggregator, display]
        if options.log_json:
            handlers.append(JsonLog(aggregator.snapshot, stack.enter_context(_opened(options, "log_json"))))
        if options.record_rollouts:
            _opened(options, "record_rollouts").close()
            agent.recorder = RolloutRecorder(agent.network.layout, environment.consulted)
        if options.pace:
            handlers.append(Pace(options.pace))
        if not options.quiet:
            console.print(f"run {info.run_id}: {server.url}/metrics", highlight=False, soft_wrap=True)
        state = RunState.FAILED
        try:
            with display:
                collector = RolloutCollector(environment, agent.network, seed=options.seed, device=device)
                emitter = Emitter(handlers, aggregator.count_record_error)
                training = partial(train, agent, collector, emitter, _limits(options), signals.received)
                source = LocalSource(aggregator.snapshot, f"{server.url}/metrics")
                state = train_beside_panel(training, source, signals) if options.tui else training()
        except Exception:  # noqa: BLE001 - whatever ends the run, /metrics must say so
            _LOG.exception("the run failed")
        aggregator.set_run_state(state)
        server.scrapers.run_ended()
        if agent.recorder is not None:
            agent.recorder.save(options.record_rollouts)
        if not options.quiet:
            console.print(display.summary(), f"run {info.run_id} {state}", highlight=False)
        _linger(server, signals, options, console)
    return 1 if state is RunState.FAILED else 0


def _require_panel() -> None:
    try:
        require_panel()
    except ValueError as error:
        raise BadInputError(str(error)) from error


def _agent(options: argparse.Namespace, device: torch.device) -> tuple[TrainingEnvironment, PPOAgent]:
    try:
        environment = make_environment(options.env, options.num_envs, dict(options.env_arg))
        heads = with_multipliers(environment.heads, dict(options.entropy_multiplier))
    except EnvironmentSetupError as error:
        raise BadInputError(str(error)) from error
    except ValueError as error:
        raise BadInputError(f"--entropy-multiplier: {error}") from error
    config = PPOConfig(
        rollout_steps=options.rollout_steps,
        learning_rate=options.learning_rate,
        entropy_coefficient=options.entropy_coef,
        gamma=options.gamma,
    )
    return environment, PPOAgent(heads, environment.observation_size, config, seed=options.seed, device=device)


@contextmanager
def _server(aggregator: SanctumAggregator, options: argparse.Namespace) -> Iterator[MetricsServer]:
    server = MetricsServer(aggregator.snapshot, options.listen)
    try:
        server.start()
    except OSError as error:
        raise BadInputError(str(error)) from error
    try:
        yield server
    finally:
        server.stop()


def _opened(options: argparse.Namespace, name: str) -> IO[str]:
    path: Path = getattr(options, name)
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        option = "--" + name.replace("_", "-")
        raise BadInputError(
            f"{option} {str(path)!r}: {error.strerror}; give a file that can be written"
        ) from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInputError(f"--device {name!r} is not there: {reason}; give --device cpu") from error
    return device


def _run_info(options: argparse.Namespace, agent: PPOAgent) -> RunInfo:
    return RunInfo(
        run_id=options.run_id or generated_run_id(),
        experiment=options.experiment,
        algorithm="ppo",
        environment=options.env,
        seed=str(options.seed),
        device=str(agent.device),
    )


def _limits(options: argparse.Namespace) -> Limits:
    if options.updates is None and options.episodes is None:
        return Limits(None, DEFAULT_EPISODES)
    return Limits(options.updates, options.episodes)


def _linger(server: MetricsServer, signals: StopSignals, options: argparse.Namespace, console: Console) -> None:
    """Keep the final state up until recent scrapers have it; a further signal ends this at once."""
    before = signals.count
    hold = options.hold and console.is_terminal and not before
    if hold:
        console.print(f"{server.url}/metrics stays up until Ctrl-C", highlight=False, soft_wrap=True)
    deadline = time.monotonic() + options.linger
    while signals.count == before and (hold or time.monotonic() < deadline):
        if server.scrapers.wait(0.2) and not hold:
            return
        if hold:
            time.sleep(0.2)
