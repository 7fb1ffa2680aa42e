"""Rereads a configuration when its files change: certificates and passwords rotate without a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from rl_exporter.log import exporter_log

_LOG = exporter_log()
_LOOK_SECONDS = 1.0

T = TypeVar("T")
Signature = tuple[tuple[int, int, int] | None, ...]


class LiveConfig(Generic[T]):
    """What ``read`` makes of a file, and again when the file or one that it names has changed.

    A change that cannot be used is logged once, and the former content stays in force.
    """

    def __init__(
        self,
        path: Path,
        read: Callable[[Path], T],
        named: Callable[[T], Iterable[Path]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._read, self._named = read, named
        self._clock = clock
        self._signature: Signature = ()
        self._read_whole()
        self._next_look = 0.0

    def get(self) -> T:
        """The content now. It looks at the files once a second at most."""
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            signature = self._look()
            if signature != self._signature:
                self._signature = signature
                self._reread()
        return self._content

    def _reread(self) -> None:
        try:
            self._read_whole()
        except ValueError as error:
            _LOG.warning("%s; what it said before stays in force", error)

    def _read_whole(self) -> None:
        self._content = self._read(self._path)
        # It may name other files now.
        self._signature = self._look()
        # Again: what changed before the look would never be noticed.
        self._content = self._read(self._path)

    def _look(self) -> Signature:
        return tuple(map(_signature, (self._path, *self._named(self._content))))


def _signature(path: Path) -> tuple[int, int, int] | None:
    # Through symbolic links: Kubernetes changes a secret by pointing a link at another folder.
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
