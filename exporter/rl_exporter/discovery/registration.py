"""A run's own entry: taken before it starts, its address once it listens, heartbeats, removal at its end."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from rl_exporter.discovery.entry import HEARTBEAT_SECONDS, Entry, entry_path, read_entry
from rl_exporter.discovery.file_sd import TargetGroup, create_file, dump_groups, remove_file, replace_file
from rl_exporter.discovery.labels import check_labels
from rl_exporter.discovery.liveness import Probe, keeps_its_name, liveness_probe
from rl_exporter.heads import require_label_value

CLOSE_SECONDS = 10.0
"""How long the end of a run waits for a file system that does not answer."""

_LOG = logging.getLogger("rl_exporter")
_REMEDIES = {
    errno.ENOENT: "make it first, or give another",
    errno.ENOTDIR: "give a directory",
    errno.ENOSPC: "make room there, or give another",
    errno.EDQUOT: "make room there, or give another",
    errno.EFBIG: "make room there, or give another",
}


class RegistrationError(ValueError):
    """A run cannot be registered; the message names what, the reason and the remedy."""


def claim(directory: Path, run_ids: Iterable[str], labels: Mapping[str, str] | None = None) -> Registration:
    """Register a run, without an address yet, under the first of ``run_ids`` that no run alive has.

    Of several processes that claim a run_id at once, one gets it. Raises RegistrationError when all are taken
    or the directory cannot be written, ValueError for labels or names that Prometheus rejects; nothing is left.
    """
    labels = check_labels(labels or {})
    content = dump_groups(TargetGroup([], labels))
    occupant, run_id, make_probe = None, "", cache(liveness_probe)
    for run_id in run_ids:
        if not run_id:
            raise ValueError("run_id is empty; give the run a name, or leave it out for a generated one")
        require_label_value("run_id", run_id)
        path = entry_path(directory, run_id, labels)
        try:
            occupant = _occupant(path, content, make_probe)
        except OSError as error:
            raise _unwritable(directory, error) from error
        if occupant is None:
            return Registration(path, run_id, labels)
    raise _taken(run_id, occupant)


def _occupant(path: Path, content: bytes, make_probe: Callable[[], Probe]) -> Entry | None:
    """Write ``content`` to ``path`` unless a run that is alive has it: then its entry."""
    while True:
        with suppress(FileExistsError):
            create_file(path, content)
            return None
        with suppress(FileNotFoundError):  # it went away in between
            entry = read_entry(path)
            if keeps_its_name(entry, make_probe()(entry)):
                return entry
            try:
                remove_file(path, entry.version)
            except PermissionError:
                return entry  # somebody else's, in a directory like /tmp


def _taken(run_id: str, entry: Entry | None) -> RegistrationError:
    if entry is None:
        return RegistrationError("there is no run_id to register; give one")
    where = f"at {entry.address}" if entry.address else "and starting"
    return RegistrationError(
        f"run_id {run_id!r} is already registered {where}, last heartbeat {entry.age:.0f} s ago "
        f"({str(entry.path)!r}); give another, or let a number be appended (--run-id-unique)"
    )


def _unwritable(directory: Path, error: OSError) -> RegistrationError:
    remedy = _REMEDIES.get(error.errno or 0, "give a directory that can be written")
    return RegistrationError(f"cannot register in {str(directory)!r}: {error.strerror}; {remedy}")


class Registration:
    """An entry that this run owns until ``close``.

    Once it has published, errors of the directory are logged, never raised, and a file system that hangs holds
    up nobody but the thread of this object.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        labels: Mapping[str, str],
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.run_id = run_id
        self._path = path
        self._labels = labels
        self._content = dump_groups(TargetGroup([], labels))
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._troubled = False
        self._thread = threading.Thread(target=self._live, name="registration", daemon=True)
        self._thread.start()

    def publish(self, address: str) -> None:
        """Say where the run listens, HOST:PORT. Raises RegistrationError."""
        content = dump_groups(TargetGroup([address], self._labels))
        with self._lock:
            try:
                replace_file(self._path, content)
            except OSError as error:
                raise _unwritable(self._path.parent, error) from error
            self._content = content

    def close(self) -> None:
        """Remove the entry, unless it is another run's by now. May be called again."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            _LOG.warning("%s: no answer within %g s; the entry stays", self._path, CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live(self) -> None:
        while not self._closing.wait(self._heartbeat):
            self._attempt(self._beat, "Prometheus may lose sight of this run")
        self._attempt(self._remove, "the entry stays; rl-exporter targets prune removes it")

    def _attempt(self, action: Callable[[], None], consequence: str) -> None:
        """Log the first of a row of errors."""
        try:
            with self._lock:
                action()
        except OSError as error:
            if not self._troubled:
                _LOG.warning("%s: %s; %s", self._path, error.strerror, consequence)
            self._troubled = True
        else:
            self._troubled = False

    def _beat(self) -> None:
        try:
            self._require_own()
        except FileNotFoundError:
            create_file(self._path, self._content)  # somebody pruned it while this run was out of reach
            return
        os.utime(self._path)  # no times: on NFS the server's clock, one for all

    def _remove(self) -> None:
        try:
            self._require_own()
        except FileNotFoundError:
            return
        self._path.unlink(missing_ok=True)

    def _require_own(self) -> None:
        if self._path.read_bytes() != self._content:
            raise FileExistsError(errno.EEXIST, "another run has registered under this run_id")
