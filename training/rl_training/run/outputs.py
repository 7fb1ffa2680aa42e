"""What rank 0 of a run shows and writes: /metrics, the display, logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rl_exporter.notify.destination import parse_destination
from rl_exporter.notify.notifier import Notifier
from rl_exporter.payload import PPOUpdateHandler, PPOUpdatePayload
from rl_exporter.server.gate import Gate
from rl_exporter.server.http import MetricsServer
from rl_exporter.server.listen import ListenError, parse_listen_address
from rl_exporter.server.scrapers import while_lingering
from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.whole_files import check_writable
from rl_training.config import BadInputError, OutputConfig
from rl_training.run.checkpointer import CheckpointedView
from rl_training.run.display import Display
from rl_training.run.job import Job
from rl_training.run.json_log import JsonLog
from rl_training.run.registration import listening
from rl_training.run.signals import StopSignals
from rl_training.telemetry.rollout_archive import RolloutArchive


@dataclass(frozen=True, slots=True)
class Outputs:
    """What rank 0 shows and writes."""

    view: CheckpointedView
    server: MetricsServer
    console: Console
    display: Display
    handlers: list[PPOUpdateHandler]
    found_at: str
    """How the first line of the run ends: where others find it."""
    notifier: Notifier | None


def make_outputs(job: Job, signals: StopSignals, stack: ExitStack) -> Outputs:
    """Open everything that rank 0 shows and writes; the stack closes it. Raises BadInputError."""
    output, aggregator = job.settings.output, job.aggregator
    view = CheckpointedView(aggregator.snapshot)
    # A run without checkpoints has nothing that /metrics could be ahead of.
    shown = view.snapshot if job.settings.run.checkpoint else aggregator.snapshot
    server = stack.enter_context(_server(shown, output))
    console = Console()
    display = Display(aggregator.snapshot, console, quiet=output.quiet or output.tui)
    handlers = [*_handlers(job, display, stack), *pace(output, signals)]
    # Last: a run appears in the discovery directory only once it answers.
    found_at = listening(job.identity, server, output.register)
    notifier = _notifier(job, server, output.notify, stack) if output.notify else None
    return Outputs(view, server, console, display, handlers, found_at, notifier)


def _handlers(job: Job, display: Display, stack: ExitStack) -> list[PPOUpdateHandler]:
    output, snapshot = job.settings.output, job.aggregator.snapshot
    # What records comes first: the others show and write the snapshot of the update.
    handlers: list[PPOUpdateHandler] = [job.recorded_by, display]
    if output.log_json:
        # A resumed run continues its log.
        with _writable(output.log_json, "--log-json"):
            log = JsonLog(
                snapshot, output.log_json, job.aggregator.count_record_error, append=bool(job.resumed)
            )
        stack.callback(log.close)
        handlers.append(log)
    if output.record_rollouts:
        # A file that cannot be written must show before the training, not after it.
        with _writable(output.record_rollouts, "--record-rollouts"):
            check_writable(output.record_rollouts)
        job.agent.archive = RolloutArchive(job.agent.network.layout, job.environment.consulted)
    return handlers


def _notifier(job: Job, server: MetricsServer, url: str, stack: ExitStack) -> Notifier:
    """Post what the alert rules would page for; the stack waits, at the end, for messages on their way."""
    try:
        destination = parse_destination(url)
    except ValueError as error:  # its file has gone since the options were read
        raise BadInputError(f"--notify: {error}") from error
    notifier = Notifier(job.aggregator.snapshot, [destination], source=server.url)
    stack.callback(notifier.close)
    return notifier


def pace(output: OutputConfig, signals: StopSignals) -> list[PPOUpdateHandler]:
    """What waits after each update, so that a person can follow; nothing without ``--pace``."""
    return [_Pace(output.pace, signals)] if output.pace else []


class _Pace:
    def __init__(self, seconds: float, signals: StopSignals) -> None:
        self._seconds, self._signals = seconds, signals

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Wait for the given seconds, or until the run is to end."""
        del payload
        self._signals.wait(self._seconds)


@contextmanager
def _server(snapshot: Callable[[], SanctumSnapshot], output: OutputConfig) -> Iterator[MetricsServer]:
    names = (name.strip() for name in output.allow_host.split(",") if name.strip())
    try:
        gate = Gate(output.web_config_file, names)
        server = MetricsServer(snapshot, parse_listen_address(output.listen, auto=True), gate=gate)
        server.start()
    except ListenError as error:
        raise BadInputError(error.worded("--listen {}")) from error
    except (OSError, ValueError) as error:
        raise BadInputError(str(error)) from error
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _writable(path: Path, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInputError(
            f"{option} {str(path)!r}: {error.strerror}; give a file that can be written"
        ) from error


def _say_who_is_waited_for(server: MetricsServer, output: OutputConfig, console: Console) -> None:
    who = server.scrapers.waits_for()
    if who and output.linger:
        # Without markup: a scraper chose its own name.
        console.print(while_lingering(who, output.linger), markup=False, highlight=False, soft_wrap=True)


def linger(
    server: MetricsServer, signals: StopSignals, output: OutputConfig, console: Console, before: int
) -> None:
    """Serve the final state until recent scrapers have fetched it, or a signal beyond ``before`` arrives."""
    if signals.at_once:
        return
    # A terminal that was closed has nobody who could press Ctrl-C.
    hold = output.hold and console.is_terminal and not before and not signals.hung_up
    if hold:
        console.print(f"{server.url}/metrics stays up until Ctrl-C", highlight=False, soft_wrap=True)
    elif signals.count <= before and not output.quiet:
        _say_who_is_waited_for(server, output, console)
    deadline = time.monotonic() + output.linger
    while signals.count <= before and (hold or time.monotonic() < deadline):
        hold = hold and not signals.hung_up
        if server.scrapers.wait(0.2) and not hold:
            return
        if hold:
            time.sleep(0.2)
