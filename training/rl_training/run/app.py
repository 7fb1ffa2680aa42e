"""Runs ``rl-train``: puts a run together from its settings, trains, and ends in an orderly way."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rl_exporter.leaving import left_by
from rl_exporter.panel.sources import LocalSource
from rl_exporter.payload import PPOUpdateHandler
from rl_exporter.snapshot import RunState
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.episodes import Drawing
from rl_training.config import DEFAULT_EPISODES, RunConfig, Settings
from rl_training.distributed.rendezvous import device_of, failing_together, own_assignment, rendezvous
from rl_training.environments.declared import EnvironmentSetupError
from rl_training.ranks import RankLostError
from rl_training.run.checkpointer import CheckpointedView, Checkpointer
from rl_training.run.determinism import deterministic_where_asked
from rl_training.run.job import Job, make_job, usable_device
from rl_training.run.kept_settings import kept_settings
from rl_training.run.outputs import Outputs, linger, make_outputs, pace
from rl_training.run.signals import StopSignals
from rl_training.run.streams import harmless_streams
from rl_training.run.terminal_panel import train_beside_panel
from rl_training.run.training_loop import Limits, train
from rl_training.telemetry.emitter import Emitter
from rl_training.telemetry.rollout_archive import RolloutArchive

_LOG = logging.getLogger("rl_training")


def run(settings: Settings) -> int:
    """Train as the settings say; returns the exit status.

    Raises BadInputError before anything starts, and RankLostError when another rank dies before that.
    """
    with harmless_streams():
        return _run(settings)


def _run(settings: Settings) -> int:
    assignment = own_assignment(os.environ)
    who = f"rank {assignment.rank}: " if assignment.rank else ""
    level = logging.ERROR if assignment.rank else logging.WARNING
    logging.basicConfig(format=f"rl-train: {who}%(levelname)s: %(message)s", level=level)
    # The policy is small: more threads cost more than they bring, and results would depend on their number.
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.enter_context(deterministic_where_asked(settings.run))
        device = usable_device(device_of(settings.run.device, assignment))
        ranks = stack.enter_context(rendezvous(assignment, settings.run, device))
        # Of several ranks, each gets the signal of its launcher as well; and the panel reads Ctrl-C as a key.
        alone = ranks.size == 1 and not settings.output.tui
        signals = stack.enter_context(StopSignals(second_ends=alone))
        with failing_together(ranks), signals.ending_at_once():
            job = make_job(settings, ranks, device, stack)
        # Only now: a run that another rank cannot begin must not appear in /metrics or the discovery directory.
        with failing_together(ranks):
            outputs = None if ranks.rank else make_outputs(job, signals, stack)
        return _run_other_rank(job, signals) if outputs is None else _run_rank_zero(job, outputs, signals)


def _run_rank_zero(job: Job, outputs: Outputs, signals: StopSignals) -> int:
    output, aggregator = job.settings.output, job.aggregator
    server, console, display = outputs.server, outputs.console, outputs.display
    run_id = job.identity.run_id
    if not output.quiet:
        console.print(f"run {run_id}: {server.url}/metrics{outputs.found_at}", highlight=False, soft_wrap=True)
    training = partial(_train, job, outputs.handlers, outputs.view, signals, display.remember_drawing)
    if output.tui:
        source = LocalSource(aggregator.snapshot, f"{server.url}/metrics")
        training = partial(train_beside_panel, training, source, signals)
    with display:
        state = _train_to_the_end(job, training, signals)
    aggregator.set_run_state(state)
    if outputs.notifier is not None:
        outputs.notifier.run_ended()
    server.scrapers.run_ended(expected=job.identity.listed)
    if job.agent.archive is not None and output.record_rollouts is not None:
        _record_rollouts(job, job.agent.archive, output.record_rollouts)
    if not output.quiet:
        console.print(display.summary())
        console.print(display.drawing(), soft_wrap=True)
        console.print(f"run {run_id} {state}", highlight=False)
    # A launcher signals every rank when one ends early. That signal does not mean that a person wants rank 0 to
    # skip the wait for the last scrapes.
    told = job.ranks.size > 1 and state is not RunState.COMPLETED
    linger(server, signals, output, console, max(signals.count, int(told)))
    job.identity.close()  # before the server stops, so that no one discovers an address that does not answer
    return 1 if state is RunState.FAILED else 0


def _record_rollouts(job: Job, archive: RolloutArchive, path: Path) -> None:
    """Write the last update. An error is logged: the run has ended, and its scrapers must hear how."""
    try:
        if not archive.save(path, job.resumed.snapshot.tamiyo.updates if job.resumed else 0):
            _LOG.warning("--record-rollouts %r not written: there was no update to keep", str(path))
    except Exception as error:  # noqa: BLE001 - a full disk is the usual one, and not the only one
        reason = getattr(error, "strerror", None) or f"{type(error).__name__} {error}"
        _LOG.error("--record-rollouts %r not written: %s", str(path), reason)


def _run_other_rank(job: Job, signals: StopSignals) -> int:
    """Train beside rank 0, which listens, shows and writes for all ranks."""
    handlers = pace(job.settings.output, signals)
    training = partial(_train, job, handlers, CheckpointedView(job.aggregator.snapshot), signals)
    state = _train_to_the_end(job, training, signals)
    return 1 if state is RunState.FAILED else 0


def _train_to_the_end(job: Job, training: Callable[[], RunState], signals: StopSignals) -> RunState:
    """Train, and return how it ended. Whatever ends it, /metrics says so, and the other ranks do not wait."""
    state = None
    try:
        with signals.ending_at_once():
            state = training()
    except KeyboardInterrupt:
        state = RunState.INTERRUPTED
    except (RankLostError, EnvironmentSetupError) as error:
        _LOG.error("the run failed: %s", error)
    except SystemExit as error:
        # An environment, or a library below it, that leaves the program: the training has not reached its end.
        _LOG.error("something in the training called sys.exit(%r); the run ends", error.code)
        state = None if left_by(error) is RunState.FAILED else RunState.INTERRUPTED
    except Exception:  # noqa: BLE001 - whatever it was, /metrics must say that the run failed
        _LOG.exception("the run failed")
    if state is None:
        job.aggregator.set_run_state(RunState.FAILED)
    job.ranks.leave(well=state is not None)
    return state or RunState.FAILED


def _train(
    job: Job,
    handlers: list[PPOUpdateHandler],
    view: CheckpointedView,
    signals: StopSignals,
    show: Callable[[Drawing | None], None] = lambda _: None,
) -> RunState:
    run, agent, ranks = job.settings.run, job.agent, job.ranks
    emitter = Emitter(handlers, job.aggregator.count_record_error)
    updates = job.aggregator.snapshot().tamiyo.updates
    # Environments are no part of a checkpoint: the same seed would replay episodes that the run has seen.
    seed = run.seed if job.resumed is None else _seed_after(run.seed, updates)
    collector = RolloutCollector(job.environment, agent.network, seed=seed, device=agent.device, ranks=ranks)
    if job.resumed is not None:
        collector.restore(job.resumed.progress)
    checkpointer = None
    if run.checkpoint and not ranks.rank:
        checkpointer = Checkpointer(
            run.checkpoint,
            agent,
            collector,
            view,
            run.keep_checkpoints,
            kept_settings(job.settings),
            job.intervention.controller.state if job.intervention else dict,
        )
    # Ranks on other kinds of processor may draw other parameters from the same seed.
    ranks.broadcast(list(agent.network.parameters()))
    intervention = job.intervention
    if intervention is not None:
        intervention.apply()
    lost = threading.Event()
    ranks.watch(partial(_lost, job, lost))

    def after_update() -> None:
        if intervention is not None:
            intervention.adjust()
        show(collector.reports.best)
        if checkpointer is not None:
            checkpointer.write(job.aggregator.snapshot())

    def should_stop() -> bool:
        return signals.received() or lost.is_set()

    limits = _limits(run)
    return train(agent, collector, emitter, limits, should_stop, updates=updates, after_update=after_update)


def _lost(job: Job, lost: threading.Event, rank: int) -> None:
    """Report the loss of a rank at once, and cut the rollout short: the exchange after it would fail."""
    job.aggregator.set_run_state(RunState.FAILED)
    _LOG.error("rank %d of %d is gone", rank, job.ranks.size)
    lost.set()


def _seed_after(seed: int, updates: int) -> int:
    return int(np.random.SeedSequence([seed, updates]).generate_state(1, np.uint32)[0] >> 1)


def _limits(run: RunConfig) -> Limits:
    if run.updates is None and run.episodes is None:
        return Limits(None, DEFAULT_EPISODES)
    return Limits(run.updates, run.episodes)
