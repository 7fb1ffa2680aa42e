"""Standard output and error of a run: writing to them never raises and never waits for long."""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_PATIENCE_SECONDS = 0.2
"""How long a write waits for a reader that has stopped reading; after that, none waits until it reads again."""

_PIECE = 512
"""Bytes that go into a pipe as a whole, or not at all, on every system (PIPE_BUF)."""

_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The disk of a log file is full, and may have room again."""

_LOG = logging.getLogger("rl_training")


class HarmlessStream(io.TextIOBase):
    """Text for a person or a log file, which may have gone: then it is dropped.

    A stream that cannot be written any more, such as a closed terminal or the pipe of ``head``, falls silent.
    One whose reader has stopped, such as ``less`` or a terminal after Ctrl-S, loses what it does not take.
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        self._stream = stream
        self._name = name
        self._patience = _PATIENCE_SECONDS
        self._failed: int | None = None
        self._terminal: int | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override] # TextIOBase declares an attribute
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def writable(self) -> bool:
        """True."""
        return True

    def isatty(self) -> bool:
        """Whether a terminal is still there."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """The descriptor of the stream. Raises OSError where it has none."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write ``text``, or drop it."""
        if self._stream is not None:
            try:
                self._write(self._stream, text)
            except (OSError, ValueError) as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is complete."""

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:  # not a real one, as in a test or a notebook
            stream.write(text)
            stream.flush()
            return
        stream.flush()
        if os.isatty(descriptor):
            descriptor = self._own_terminal(descriptor)
        data = text.encode(self.encoding, errors="replace")
        with suppress(BlockingIOError):  # it has less room than it said
            while data and self._takes(descriptor):
                data = data[os.write(descriptor, data[:_PIECE]) :]
        self._failed = None

    def _own_terminal(self, descriptor: int) -> int:
        """The terminal, opened once more so that it never waits: it takes a part of a piece, unlike a pipe.

        The flag for that must not be set on ``descriptor``, which the shell shares.
        """
        if self._terminal is None:
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                self._terminal = os.open(os.ttyname(descriptor), flags)
            except OSError:  # after su, the terminal is another user's
                return descriptor
        return self._terminal

    def release(self) -> None:
        """Close what the stream has opened for itself. It can still be written."""
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _takes(self, descriptor: int) -> bool:
        """Whether a piece can be written now, or after some patience."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        ready = bool(poll.poll(self._patience * 1000))
        # The patience is for all of a stop: a reader that never reads costs the run a fifth of a second in all.
        self._patience = _PATIENCE_SECONDS if ready else 0.0
        return ready

    def _fail(self, error: OSError | ValueError) -> None:
        number = error.errno if isinstance(error, OSError) else errno.EBADF
        if number not in _PASSING:
            self._stream = None
        if number != self._failed:
            self._failed = number  # before the log, which may write to this stream
            reason = os.strerror(number or errno.EIO)
            _LOG.warning("%s: %s; what it does not take is lost, and the run goes on", self._name, reason)


@contextmanager
def harmless_streams() -> Iterator[None]:
    """Standard output and error are harmless within the block, for libraries and environments, too."""
    former = sys.stdout, sys.stderr
    # Error first: it tells what happens to the other.
    sys.stderr = error = HarmlessStream(former[1], "standard error")
    sys.stdout = output = HarmlessStream(former[0], "standard output")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = former
        error.release()
        output.release()
