"""Lets one process at a time replace or remove an entry, however many want to.

A process that wants to takes a lock on the entry's file itself, and then checks that this file still has the
name. Only the holder of that lock gives the name to another file, so a process that comes late finds out before
it does harm. The lock leaves nothing behind and ends with its process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_exporter.discovery.file_sd import MAX_BYTES, FileVersion, file_version, new_file
from rl_exporter.guarded import read_descriptor

_LOCK_SECONDS = 2.0
_POLL_SECONDS = 0.01


def remove_file(path: Path, expected: FileVersion) -> bool:
    """Remove ``path`` unless it was touched or replaced since ``expected`` was read.

    Of concurrent processes that saw the same file one removes it; none ever takes away a newer file. Raises
    BlockingIOError if somebody does not let go of the file, and other OSErrors.
    """
    try:
        with _held(path, insist=True):
            if file_version(path) != expected:
                return False
            path.unlink()
    except FileExistsError:
        return False
    return True


def replace_own(path: Path, former: bytes, content: bytes) -> None:
    """Write ``content`` to an entry that holds ``former``; a reader sees one or the other.

    Raises FileExistsError if another run has taken the entry over, and other OSErrors.
    """
    with new_file(path.parent, content) as partial, _owned(path, former):
        partial.replace(path)


def touch_own(path: Path, content: bytes) -> None:
    """Set the mtime of an entry that holds ``content``. Raises as ``replace_own``."""
    # Touched, not rewritten: Prometheus reads all files again after a write. Without times, NFS takes the
    # server's clock, which is the same for all runs.
    with _owned(path, content) as descriptor:
        os.utime(descriptor)


def remove_own(path: Path, content: bytes) -> None:
    """Remove an entry that holds ``content``. Raises as ``replace_own``."""
    with _owned(path, content):
        path.unlink(missing_ok=True)


@contextmanager
def _owned(path: Path, content: bytes) -> Iterator[int]:
    # An owner does not insist on the lock: while a stranger keeps it, nobody takes the entry over either, and
    # a run must not stop for a stranger. The content tells runs apart, because the name of the file does not:
    # it is the same after a crash and a restart.
    with _held(path, insist=False) as descriptor:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if not regular or read_descriptor(descriptor, MAX_BYTES) != content:
            raise _replaced()
        yield descriptor


@contextmanager
def _held(path: Path, *, insist: bool) -> Iterator[int]:
    """Hold what is at ``path``. Yields a descriptor of it, or of its directory if it is no regular file.

    Raises FileExistsError if another process replaced it meanwhile.
    """
    is_file = stat.S_ISREG(path.lstat().st_mode)
    descriptor = _open(path if is_file else path.parent)
    try:
        _lock(descriptor, insist=insist)
        if is_file and not os.path.samestat(os.fstat(descriptor), path.lstat()):
            raise _replaced()
        yield descriptor
    finally:
        os.close(descriptor)


def _replaced() -> FileExistsError:
    return FileExistsError(errno.EEXIST, "another run has registered under this run_id")


def _open(path: Path) -> int:
    # Never waiting and following no link: somebody may have put something else there by now.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)  # NFS locks only what is open for writing
    except (PermissionError, IsADirectoryError):
        return os.open(path, os.O_RDONLY | flags)


def _lock(descriptor: int, *, insist: bool) -> None:
    """Wait for the lock. A file system without locks has none: there the checks stand alone."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            if insist:
                raise BlockingIOError(errno.EWOULDBLOCK, "another process does not let go of it")
            return
        time.sleep(_POLL_SECONDS)


def _try_lock(descriptor: int) -> bool:
    """Whether there is nothing to wait for: the lock is taken, or the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
