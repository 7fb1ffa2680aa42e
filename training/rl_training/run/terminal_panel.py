"""``rl-train --tui``: the panel runs on the main thread, the training on another."""

from __future__ import annotations

import logging
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.panel.sources import Backoff, LocalSource
from rl_exporter.snapshot import RunState
from rl_training.run.signals import StopSignals
from rl_training.run.streams import HarmlessStream

if TYPE_CHECKING:
    from rl_exporter.panel.app import WatchApp

LOOK_SECONDS = 0.5
_HELD_RECORDS = 1000
_LOG = logging.getLogger("rl_training")


def require_panel() -> None:
    """Raise ValueError, with the remedy, where the panel cannot run."""
    if find_spec("textual") is None:
        raise ValueError("--tui needs textual: pip install 'rl-policy-exporter[tui]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("--tui needs a terminal; leave it out")


def train_beside_panel(train: Callable[[], RunState], source: LocalSource, signals: StopSignals) -> RunState:
    """Run ``train`` on another thread and the panel on this one; returns or raises what ``train`` does.

    Quitting the panel stops the run between updates, as Ctrl-C does. If the panel fails, or its terminal is
    closed, training continues.
    """
    app = _panel(source)
    outcome: Future[RunState] = Future()
    worker = threading.Thread(target=_settle, args=(train, outcome), name="training")
    outcome.add_done_callback(lambda _: _close(app))
    with _held_logs(), _harmless_terminal(), _hang_up(app) as closed:
        worker.start()
        failure = _show(app)
    if closed.is_set():
        _LOG.warning("the terminal was closed; the run goes on without the panel")
    elif failure is not None:
        _LOG.error("the panel failed (%s); the run goes on without it, Ctrl-C ends it", failure)
    elif not outcome.done():
        sys.stderr.write("rl-train: the run ends after this update\n")
        signals.stop()
    worker.join()
    return outcome.result()


def _panel(source: LocalSource) -> WatchApp:
    from rl_exporter.panel.app import WatchApp  # noqa: PLC0415 - textual may not be installed

    app = WatchApp([ObservedRun(source, Backoff(LOOK_SECONDS), timeout=5.0)])
    app.title = "rl-train"
    return app


def _settle(train: Callable[[], RunState], outcome: Future[RunState]) -> None:
    try:
        outcome.set_result(train())
    except BaseException as error:  # noqa: BLE001 - the main thread raises it again
        outcome.set_exception(error)


def _show(app: WatchApp) -> str | None:
    """Show the panel until the user quits; returns what went wrong with it, or None."""
    try:
        app.run()
    except Exception as error:  # noqa: BLE001 - nothing in the panel may stop the training
        return f"{type(error).__name__}: {error}"
    return None if app.return_code == 0 else "see above"


def _close(app: WatchApp) -> None:
    """Close the panel when the run has ended; safe from any thread, and before or after it is shown."""
    app.leave()


@contextmanager
def _harmless_terminal() -> Iterator[None]:
    """Textual writes to the original standard error, on a thread that ends with the first error.

    After that, or when a terminal stands still, the panel would wait for that thread, and the run for it.
    """
    former = sys.__stderr__
    harmless = HarmlessStream(former, "the terminal")
    sys.__stderr__ = harmless  # type: ignore[misc, assignment] # like TextIO
    try:
        yield
    finally:
        sys.__stderr__ = former  # type: ignore[misc]
        harmless.release()


@contextmanager
def _hang_up(app: WatchApp) -> Iterator[threading.Event]:
    """Close the panel when its terminal is closed, which Textual reads without end; the event says so."""
    closed, over = threading.Event(), threading.Event()
    terminal = select.poll()
    with suppress(OSError):  # no descriptor, where a test plays the terminal
        terminal.register(sys.stdin, 0)  # 0: a hang-up, and no input

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if terminal.poll(0):
                closed.set()
                _close(app)
                return

    watcher = threading.Thread(target=watch, name="terminal", daemon=True)
    watcher.start()
    try:
        yield closed
    finally:
        over.set()
        watcher.join()


@contextmanager
def _held_logs() -> Iterator[None]:
    """Hold back the last thousand log lines while the panel owns the screen, and log them afterwards."""
    root = logging.getLogger()
    holder = _Holder()
    former, root.handlers = root.handlers, [holder]
    try:
        yield
    finally:
        root.handlers = former
        for record in holder.records:
            root.handle(record)


class _Holder(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=_HELD_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Hold the record back."""
        self.records.append(record)
