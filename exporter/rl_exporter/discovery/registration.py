"""A run's own entry, from the claim of its run_id through address and heartbeats to its removal."""

from __future__ import annotations

import errno
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from rl_exporter.discovery.entry import HEARTBEAT_SECONDS, Entry, entry_path, read_entry
from rl_exporter.discovery.file_sd import TargetGroup, create_file, dump_groups
from rl_exporter.discovery.labels import check_labels
from rl_exporter.discovery.liveness import Probe, holds_run_id, liveness_probe
from rl_exporter.discovery.ownership import remove_file, remove_own, replace_own, touch_own
from rl_exporter.forks import in_forked_child
from rl_exporter.heads import require_label_value
from rl_exporter.log import exporter_log

CLOSE_SECONDS = 10.0
"""How long a run waits at its end for a file system that hangs."""

_MAX_ATTEMPTS = 100
"""At one run_id. Only somebody who changes an entry on purpose all the time makes more of them necessary."""

_LOG = exporter_log()
_REMEDIES = {
    errno.ENOENT: "make it first, or give another",
    errno.EEXIST: "give another run_id",
    errno.ENOTDIR: "give a directory",
    errno.ENOSPC: "make room there, or give another",
    errno.EDQUOT: "make room there, or give another",
    errno.EFBIG: "make room there, or give another",
}


class RegistrationError(ValueError):
    """A run cannot be registered. The message gives the reason and the remedy."""


def claim(directory: Path, run_ids: Iterable[str], labels: Mapping[str, str] | None = None) -> Registration:
    """Register a run under the first of ``run_ids`` that no live run holds, without an address yet.

    Of processes that claim a run_id concurrently, one gets it. Raises RegistrationError if all run_ids are
    taken or the directory cannot be written, ValueError for labels or names that Prometheus rejects; an error
    leaves no file.
    """
    labels = check_labels(labels or {})
    signature = _signature()
    content = dump_groups(TargetGroup([], labels)) + signature
    holder, run_id = None, ""
    make_probe = cache(liveness_probe)  # at most one HTTP client, and none if the first run_id is free
    for run_id in run_ids:
        if not run_id:
            raise ValueError("run_id is empty; give the run a name, or leave it out for a generated one")
        require_label_value("run_id", run_id)
        path = entry_path(directory, run_id, labels)
        try:
            holder = _create_or_find_holder(path, content, make_probe)
        except OSError as error:
            raise _not_writable(directory, error) from error
        if holder is None:
            return Registration(path, run_id, labels, signature=signature)
    raise _run_id_taken(run_id, holder)


def _signature() -> bytes:
    """Blanks and tabs after the document, which readers of JSON skip. No other entry ends with the same ones.

    Without them two runs of one name would write the same entry before they listen, and one that stood still
    meanwhile would take the other's for its own.
    """
    return bytes(secrets.choice(b" \t") for _ in range(64)) + b"\n"


def _create_or_find_holder(path: Path, content: bytes, make_probe: Callable[[], Probe]) -> Entry | None:
    """Create the entry at ``path``, replacing that of a dead run. Returns the entry of a live run instead."""
    entry = None
    for _ in range(_MAX_ATTEMPTS):  # until no other process changes the entry in between
        with suppress(FileExistsError):
            create_file(path, content)
            return None
        with suppress(FileNotFoundError):  # its run ended just now
            entry = read_entry(path)
            if holds_run_id(entry, make_probe()(entry)):
                return entry
            try:
                remove_file(path, entry.version)
            except (PermissionError, IsADirectoryError, BlockingIOError):
                # Another user's in a directory with the sticky bit, such as /tmp; no file; or somebody is about
                # to take it over.
                return entry
    return entry


def _run_id_taken(run_id: str, entry: Entry | None) -> RegistrationError:
    if entry is None:
        return RegistrationError("there is no run_id to register; give one")
    where = f"at {entry.address}" if entry.address else "and starting"
    return RegistrationError(
        f"run_id {run_id!r} is already registered {where}, last heartbeat {entry.age:.0f} s ago "
        f"({str(entry.path)!r}); give another, or let a number be appended "
        "(Discovery(unique=True), --run-id-unique)"
    )


def _not_writable(directory: Path, error: OSError) -> RegistrationError:
    remedy = _REMEDIES.get(error.errno or 0, "give a directory that can be written")
    return RegistrationError(f"cannot register in {str(directory)!r}: {error.strerror}; {remedy}")


class Registration:
    """An entry that this run owns until ``close``.

    After ``publish`` only the thread of this object touches the directory, and it logs errors instead of
    raising them: training must not stop for a file system that fails or hangs.
    """

    def __init__(
        self,
        path: Path,
        run_id: str,
        labels: Mapping[str, str],
        *,
        signature: bytes = b"",
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.run_id = run_id
        self._path = path
        self._labels = labels
        self._signature = signature
        self._content = dump_groups(TargetGroup([], labels)) + signature
        self._interval = heartbeat
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._failing = False
        # A daemon: a run that ends without close() must not wait for its next heartbeat.
        self._thread = threading.Thread(target=self._keep_alive, name="registration", daemon=True)
        self._thread.start()
        in_forked_child(self._let_go)

    def _let_go(self) -> None:
        """In a forked child: the entry is the parent's to remove."""
        self._closed = threading.Event()
        self._closed.set()

    def publish(self, address: str, scheme: str = "http") -> None:
        """Write the address of the run, HOST:PORT, and its scheme into the entry.

        Raises RegistrationError, also if another run has taken the entry over, which it may when this one stood
        still for so long that it counted as dead.
        """
        # Prometheus takes the scheme of a target from this label, and http without it.
        scheme_label = {} if scheme == "http" else {"__scheme__": scheme}
        group = TargetGroup([address], {**self._labels, **scheme_label})
        content = dump_groups(group) + self._signature
        with self._lock:
            try:
                self._replace(content)
            except OSError as error:
                raise _not_writable(self._path.parent, error) from error
            self._content = content

    def _replace(self, content: bytes) -> None:
        try:
            replace_own(self._path, self._content, content)
        except FileNotFoundError:
            create_file(self._path, content)  # somebody pruned it

    def close(self) -> None:
        """Remove the entry, unless another run has taken it over. May be called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            _LOG.warning("%s: no answer within %g s; the entry stays", self._path, CLOSE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keep_alive(self) -> None:
        while not self._closed.wait(self._interval):
            self._attempt(self._heartbeat, "Prometheus may lose sight of this run")
        # On this thread too: close() can then give up on a file system that hangs.
        self._attempt(self._remove, "the entry stays; rl-exporter targets prune removes it")

    def _attempt(self, action: Callable[[], None], consequence: str) -> None:
        """Log only the first of consecutive errors: a full disk must not fill the training log."""
        try:
            with self._lock:
                action()
        except OSError as error:
            if not self._failing:
                _LOG.warning("%s: %s; %s", self._path, error.strerror, consequence)
            self._failing = True
        else:
            self._failing = False

    def _heartbeat(self) -> None:
        try:
            touch_own(self._path, self._content)
        except FileNotFoundError:
            create_file(self._path, self._content)  # somebody pruned it while this run did not answer

    def _remove(self) -> None:
        with suppress(FileNotFoundError):
            remove_own(self._path, self._content)
