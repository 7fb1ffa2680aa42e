"""Puts a run together from its settings: environment, agent, exporter, display."""

from __future__ import annotations

import logging
import os
import threading
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

from rl_exporter.listen import parse_listen_address
from rl_exporter.panel.sources import LocalSource
from rl_exporter.payload import PPOUpdateHandler
from rl_exporter.server import MetricsServer
from rl_exporter.snapshot import RunState, SanctumSnapshot
from rl_training.checkpoint import Checkpointer, Gate
from rl_training.cli import DEFAULT_EPISODES
from rl_training.config import OutputConfig, RunConfig, Settings
from rl_training.display import Display
from rl_training.emitter import Emitter
from rl_training.errors import BadInputError
from rl_training.handlers import JsonLog, Pace
from rl_training.job import Job, make_job, usable_device
from rl_training.meeting import agreed, device_of, find_own_place, met
from rl_training.presence import listening
from rl_training.ranks import RankLostError
from rl_training.recording import RolloutRecorder
from rl_training.rollout import RolloutCollector
from rl_training.signals import StopSignals
from rl_training.trainer import Limits, train
from rl_training.tui import train_beside_panel

_LOG = logging.getLogger("rl_training")


def run(settings: Settings) -> int:
    """Train as the settings say; returns the exit status. Raises BadInputError before anything starts."""
    place = find_own_place(os.environ)
    who = f"rank {place.rank}: " if place.rank else ""
    level = logging.ERROR if place.rank else logging.WARNING
    logging.basicConfig(format=f"rl-train: {who}%(levelname)s: %(message)s", level=level)
    device = usable_device(device_of(settings.run.device, place))
    # The policy is small: more threads cost more than they bring, and results would depend on their number.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        ranks = stack.enter_context(met(place, settings.run, device))
        signals = stack.enter_context(StopSignals())
        with agreed(ranks):
            job = make_job(settings, ranks, device, stack)
        # Only now: nobody is to see a run that another rank cannot begin.
        with agreed(ranks):
            outputs = None if ranks.rank else _outputs(job, stack)
        return _follow(job, signals) if outputs is None else _lead(job, outputs, signals)


@dataclass(frozen=True, slots=True)
class Outputs:
    """What rank 0 shows and writes."""

    gate: Gate
    server: MetricsServer
    console: Console
    display: Display
    handlers: list[PPOUpdateHandler]
    found_at: str
    """What to say of where others find the run."""


def _outputs(job: Job, stack: ExitStack) -> Outputs:
    output, aggregator = job.settings.output, job.aggregator
    gate = Gate(aggregator.snapshot)
    shown = gate.snapshot if job.settings.run.checkpoint else aggregator.snapshot
    server = stack.enter_context(_server(shown, output.listen))
    console = Console()
    display = Display(aggregator.snapshot, console, quiet=output.quiet or output.tui)
    handlers = _handlers(job, display, stack)
    # Last: whoever finds the run is to find it ready.
    found_at = listening(job.presence, server.address, output.register)
    return Outputs(gate, server, console, display, handlers, found_at)


def _lead(job: Job, outputs: Outputs, signals: StopSignals) -> int:
    output, aggregator = job.settings.output, job.aggregator
    server, console, display = outputs.server, outputs.console, outputs.display
    run_id = job.presence.run_id
    if not output.quiet:
        console.print(f"run {run_id}: {server.url}/metrics{outputs.found_at}", highlight=False, soft_wrap=True)
    training = partial(_train, job, outputs.handlers, outputs.gate, signals)
    if output.tui:
        source = LocalSource(aggregator.snapshot, f"{server.url}/metrics")
        training = partial(train_beside_panel, training, source, signals)
    with display:
        state = _end(job, training)
    aggregator.set_run_state(state)
    server.scrapers.run_ended(expected=job.presence.listed)
    if job.agent.recorder is not None and output.record_rollouts is not None:
        before = job.resumed.snapshot.tamiyo.updates if job.resumed else 0
        job.agent.recorder.save(output.record_rollouts, before)
    if not output.quiet:
        console.print(display.summary(), f"run {run_id} {state}", highlight=False)
    # Whatever ends one rank early, the launcher tells every rank to stop: that signal is no wish to leave now.
    told = job.ranks.size > 1 and state is not RunState.COMPLETED
    _linger(server, signals, output, console, max(signals.count, int(told)))
    job.presence.close()  # before the server stops: nobody is to find an address that does not answer
    return 1 if state is RunState.FAILED else 0


def _follow(job: Job, signals: StopSignals) -> int:
    """Train beside rank 0, which alone listens, shows and writes."""
    pace = job.settings.output.pace
    handlers: list[PPOUpdateHandler] = [Pace(pace)] if pace else []
    state = _end(job, partial(_train, job, handlers, Gate(job.aggregator.snapshot), signals))
    return 1 if state is RunState.FAILED else 0


def _end(job: Job, training: Callable[[], RunState]) -> RunState:
    """How the training ended. Whatever ends it, /metrics must say so, and the other ranks must not wait."""
    state = None
    try:
        state = training()
    except RankLostError as error:
        _LOG.error("the run failed: %s", error)
    except Exception:  # noqa: BLE001 - as above
        _LOG.exception("the run failed")
    if state is None:
        job.aggregator.set_run_state(RunState.FAILED)
    job.ranks.leave(well=state is not None)
    return state or RunState.FAILED


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


def _train(job: Job, handlers: list[PPOUpdateHandler], gate: Gate, signals: StopSignals) -> RunState:
    run, agent, ranks = job.settings.run, job.agent, job.ranks
    emitter = Emitter(handlers, job.aggregator.count_record_error)
    updates = job.aggregator.snapshot().tamiyo.updates
    # Environments start anew: the same seed again would replay the episodes that were already played.
    seed = run.seed if job.resumed is None else _seed_after(run.seed, updates)
    collector = RolloutCollector(job.environment, agent.network, seed=seed, device=agent.device, ranks=ranks)
    if job.resumed is not None:
        collector.restore(job.resumed.progress)
    checkpointer = None
    if run.checkpoint and not ranks.rank:
        checkpointer = Checkpointer(run.checkpoint, agent, collector, gate)
    # The same seed may give other parameters on another kind of processor.
    ranks.copy(list(agent.network.parameters()))
    lost = threading.Event()
    ranks.watch(partial(_lost, job, lost))

    def after_update() -> None:
        if checkpointer is not None:
            checkpointer.write(job.aggregator.snapshot())

    def should_stop() -> bool:
        return signals.received() or lost.is_set()

    limits = _limits(run)
    return train(agent, collector, emitter, limits, should_stop, updates=updates, after_update=after_update)


def _lost(job: Job, lost: threading.Event, rank: int) -> None:
    """Say at once that a rank is gone, and do not finish the rollout: the exchange after it will fail."""
    job.aggregator.set_run_state(RunState.FAILED)
    _LOG.error("rank %d of %d is gone", rank, job.ranks.size)
    lost.set()


def _seed_after(seed: int, updates: int) -> int:
    return int(np.random.SeedSequence([seed, updates]).generate_state(1, np.uint32)[0] >> 1)


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


def _limits(run: RunConfig) -> Limits:
    if run.updates is None and run.episodes is None:
        return Limits(None, DEFAULT_EPISODES)
    return Limits(run.updates, run.episodes)


def _linger(
    server: MetricsServer, signals: StopSignals, output: OutputConfig, console: Console, before: int
) -> None:
    """Keep the final state up until recent scrapers have it; a signal beyond ``before`` ends this at once."""
    hold = output.hold and console.is_terminal and not before
    if hold:
        console.print(f"{server.url}/metrics stays up until Ctrl-C", highlight=False, soft_wrap=True)
    deadline = time.monotonic() + output.linger
    while signals.count <= before and (hold or time.monotonic() < deadline):
        if server.scrapers.wait(0.2) and not hold:
            return
        if hold:
            time.sleep(0.2)
