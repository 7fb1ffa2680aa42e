"""``--log-json``: a JSON line for each update, to a file or a pipe, neither of which can stop the training."""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import stat
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from rl_exporter.metrics import update_values
from rl_exporter.payload import PPOUpdatePayload
from rl_exporter.snapshot import SanctumSnapshot

HELD_BYTES = 2**24
"""Lines that cannot be written yet are held back up to this size: a thousand of a policy with eight heads."""

_LAST_SECONDS = 2.0
"""How long the end of a run waits for a reader that is slow."""

_NOBODY = {errno.EPIPE, errno.ENXIO}
"""Nobody reads the pipe any more, or yet."""

_LOG = logging.getLogger("rl_training")


class JsonLog:
    """Writes each update with the names and values of /metrics, whole lines only, and never waits.

    A full disk: the lines are held back, the file keeps its whole lines, and an update that could not be
    written counts as an error of telemetry. A pipe whose reader is slow: the lines are held back. A pipe that
    nobody reads: the lines are dropped, and a new reader starts with a whole one.
    """

    def __init__(
        self,
        snapshot: Callable[[], SanctumSnapshot],
        path: Path,
        count_error: Callable[[], None],
        *,
        append: bool = False,
    ) -> None:
        """Open the log, anew or to ``append``. Raises OSError if it cannot be written."""
        self._snapshot = snapshot
        self._path = path
        self._count_error = count_error
        self._is_pipe = path.is_fifo()
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC | os.O_APPEND
        self._held: deque[bytes] = deque()
        self._problem = ""
        self._descriptor: int | None = None
        self._open(0 if append else os.O_TRUNC)

    def _open(self, more: int) -> None:
        try:
            self._descriptor = os.open(self._path, self._flags | more, 0o666)
        except OSError as error:
            if not (self._is_pipe and error.errno == errno.ENXIO):
                raise

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Write the update that the aggregator, an earlier handler, has just recorded."""
        del payload
        snapshot = self._snapshot()
        line = {"update": snapshot.tamiyo.updates, **update_values(snapshot)}
        self._hold(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._write()

    def close(self) -> None:
        """Write what is held back, if that takes no longer than two seconds, and close the log."""
        deadline = time.monotonic() + _LAST_SECONDS
        self._write()
        while self._held and self._is_slow() and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._descriptor or 0, select.POLLOUT)
            poll.poll(left * 1000)
            self._write()
        if self._held:
            _LOG.error("--log-json %r: %d lines could not be written", str(self._path), len(self._held))
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _hold(self, line: bytes) -> None:
        if sum(map(len, self._held)) + len(line) <= HELD_BYTES:
            self._held.append(line)
        else:
            self._count_error()

    def _write(self) -> None:
        try:
            if self._descriptor is None:
                self._open(0)
            while self._held and self._descriptor is not None:
                self._write_first(self._descriptor)
        except BlockingIOError:
            self._say("its reader is slow; lines are held back")
        except OSError as error:
            if error.errno in _NOBODY:
                self._lose_reader()
            else:
                self._count_error()
                self._say(f"{error.strerror}; lines are held back, and the run goes on")
        else:
            if self._descriptor is None:
                self._lose_reader()
            else:
                self._problem = ""

    def _write_first(self, descriptor: int) -> None:
        """Write the first held line, or leave the part of it that a pipe did not take."""
        line = self._held[0]
        written = 0
        try:
            while written < len(line):
                written += os.write(descriptor, line[written:])
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                _shorten(descriptor, written)
            elif written:
                self._held[0] = line[written:]
            raise
        self._held.popleft()

    def _lose_reader(self) -> None:
        self._say("nobody reads this pipe; its lines are dropped until somebody does")
        self._held.clear()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_slow(self) -> bool:
        return self._descriptor is not None and stat.S_ISFIFO(os.fstat(self._descriptor).st_mode)

    def _say(self, problem: str) -> None:
        """Log only the first of consecutive problems of one kind."""
        if problem != self._problem:
            _LOG.warning("--log-json %r: %s", str(self._path), problem)
        self._problem = problem


def _shorten(descriptor: int, written: int) -> None:
    """Take the part of a line that a full disk took off the end of its file again."""
    status = os.fstat(descriptor)
    if written and stat.S_ISREG(status.st_mode):
        os.ftruncate(descriptor, status.st_size - written)
