"""The run behind a callback: served from the start of a training to its end, or the user's own."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.leaving import left_by_interpreter
from rl_exporter.recorder import HeadRecorder
from rl_exporter.snapshot import RunState


class ServedRun:
    """Starts and ends a run for a library that says when it trains, but not always how that ended.

    ``serve`` makes the recorder, unless the user gave one, which this never ends. ``missing``: the error of
    ``recorder`` before the start. ``in_block``: a block of the user spans several trainings, and ends the run.
    """

    def __init__(
        self, serve: Callable[..., HeadRecorder], recorder: HeadRecorder | None, missing: str, *, verbose: bool
    ) -> None:
        self._serve, self._missing, self._verbose = serve, missing, verbose
        self._recorder = recorder
        self._owned = recorder is None
        self._at_exit: Callable[[], None] | None = None
        self.in_block = False

    @property
    def recorder(self) -> HeadRecorder:
        """Serves the run, and keeps its last snapshot; RuntimeError before the start."""
        if self._recorder is None:
            raise RuntimeError(self._missing)
        return self._recorder

    @property
    def running(self) -> bool:
        """The run has started and not ended. A later callback for the same run may have taken its place."""
        if self._recorder is None or not self._owned:
            return self._recorder is not None
        return self._at_exit is not None and not self._recorder.closed

    def start(self, heads: Heads | Mapping[str, int], **of_the_run: Any) -> None:
        """Serve a new run, unless one is running. Raises ValueError and OSError as ``serve`` does."""
        if self.running:
            return
        self._forget()
        recorder = self._serve(heads, **of_the_run)
        self._recorder = recorder
        self._at_exit = partial(_end_at_exit, recorder)
        atexit.register(self._at_exit)
        if self._verbose:
            recorder.print_place()

    def completed(self) -> None:
        """A training has ended; outside a block so has the run."""
        if not self.in_block:
            self._end(lambda recorder: recorder.close(RunState.COMPLETED))

    def left(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The block has ended, and with it the run."""
        self.in_block = False
        self._end(lambda recorder: recorder.__exit__(kind, error, trace))

    def end(self, state: RunState) -> None:
        """End the run in this state."""
        self._end(lambda recorder: recorder.close(state))

    def _end(self, end: Callable[[HeadRecorder], None]) -> None:
        if self._at_exit is None:
            return
        self._forget()
        # Ctrl-C while recent scrapers fetch the final state: no more waiting, the model is intact.
        with suppress(KeyboardInterrupt), ErrorGuard(self.recorder.count_record_error):
            end(self.recorder)

    def _forget(self) -> None:
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
            self._at_exit = None


def _end_at_exit(recorder: HeadRecorder) -> None:
    """After an exception out of the training: ``failed`` if it ended the program, else ``interrupted``."""
    state = left_by_interpreter()
    recorder.close(RunState.INTERRUPTED if state is RunState.COMPLETED else state)
