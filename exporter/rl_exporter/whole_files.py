"""Writes files as a whole: a full disk or a kill leaves the former file, an error nothing beside it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

WRITING = ".writing"
"""Ends the name of a file that is not complete. A kill leaves one behind; the next write replaces it."""

_READABLE = 0o666
"""Less the umask, as for any new file."""


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of ``path`` once the block ends without an error.

    A device or a pipe cannot be replaced: it is written as it is. Raises OSError, also where another program
    began to write the same file meanwhile: that one's takes its place.
    """
    path = path.resolve()  # a symbolic link stays, and what it names is replaced
    former = _mode(path)
    if former is not None and not stat.S_ISREG(former):
        with _special_file(path) as file:
            yield file
        return
    partial = path.with_name(path.name + WRITING)
    with _new_file(partial, former) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())  # NFS and quotas report a full disk only here
            if not _is_at(partial, file):
                raise OSError(errno.EBUSY, "another program writes it, too", str(path))
            partial.replace(path)
        finally:
            if _is_at(partial, file):
                partial.unlink()
    sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Raise OSError if ``whole_file`` could not write to ``path``; leaves everything as it is."""
    try:
        with whole_file(path):
            raise _NothingToWriteError
    except _NothingToWriteError:
        return


class _NothingToWriteError(Exception):
    """Ends a write before it has changed anything."""


def sync_folder(folder: Path) -> None:
    """Bring names that changed in ``folder`` to the disk: only then do they survive a power failure."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _new_file(partial: Path, former: int | None) -> BinaryIO:
    partial.unlink(missing_ok=True)
    # O_EXCL: whatever somebody else puts there, such as a pipe that nobody reads, is not opened.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READABLE)
    if former is not None:
        os.fchmod(handle, stat.S_IMODE(former))
    return os.fdopen(handle, "wb")


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _special_file(path: Path) -> BinaryIO:
    # Without O_NONBLOCK a pipe that nobody reads would wait for a reader.
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")
