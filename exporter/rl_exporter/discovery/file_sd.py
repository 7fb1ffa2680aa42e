"""Reads and writes target files, the format of Prometheus' file-based discovery (file_sd_config).

Prometheus reads a file whenever it changes, so every write replaces the file as a whole: a half-written one
would drop its targets.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SUFFIXES = (".json", ".yml", ".yaml")
PARTIAL_PREFIX, PARTIAL_SUFFIX = ".", ".partial"
"""Name of a file during a write. The dot does not hide it from Go's ``*``, but the suffix does."""

_READABLE = 0o644
"""mkstemp makes files private, but Prometheus reads as another user."""

_LOCK_SECONDS = 2.0
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

FileVersion = tuple[int, int]
"""Inode and modification time of a file."""


class TargetGroup(NamedTuple):
    """Targets, each HOST:PORT, and the labels that Prometheus adds to all of them."""

    targets: Sequence[str]
    labels: Mapping[str, str]


def read_groups(path: Path) -> list[TargetGroup]:
    """Read the groups of a JSON or YAML file. Raises OSError, ValueError or yaml.YAMLError."""
    return parse_groups(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")


def parse_groups(text: str, *, is_json: bool = True) -> list[TargetGroup]:
    """Parse the groups in ``text``. Raises ValueError or yaml.YAMLError with the reason."""
    # safe_load, because others may write to the directory, and YAML tags can construct objects.
    groups = json.loads(text) if is_json else yaml.safe_load(text)
    if not isinstance(groups, list):
        raise ValueError("it holds no list")
    return [_parse_group(group) for group in groups]


def _parse_group(group: Any) -> TargetGroup:
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
        raise ValueError("a group has no list called targets")
    labels = group.get("labels") or {}
    if not isinstance(labels, dict):
        raise ValueError("the labels of a group are no mapping")
    for address in group["targets"]:
        if not isinstance(address, str) or "/" in address:
            raise ValueError(f"target {address!r} is not HOST:PORT")
    return TargetGroup(group["targets"], labels)


def dump_groups(*groups: TargetGroup) -> bytes:
    """The content of a target file with these groups."""
    document = [{"targets": list(group.targets), "labels": dict(group.labels)} for group in groups]
    return json.dumps(document).encode() + b"\n"


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``. A reader sees the old file or the new one, no part. Raises OSError."""
    with _temporary_file(path.parent, content) as partial:
        partial.replace(path)


def create_file(path: Path, content: bytes) -> None:
    """Like ``replace_file``, but raises FileExistsError if the file exists. Of concurrent calls one succeeds.

    On a file system without hard links the last call wins instead.
    """
    with _temporary_file(path.parent, content) as partial:
        _link(path, partial)


def _link(path: Path, partial: Path) -> None:
    # A hard link, because creating one fails where the name exists; a rename would replace it silently.
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        # An NFS client repeats a request whose answer was lost: a second link to our own file is success
        # (open(2)).
        if partial.stat().st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        partial.replace(path)


def file_version(path: Path) -> FileVersion:
    """Identify a file and its last heartbeat. Raises OSError."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns  # not the inode alone: a new file may reuse that of a removed one


def remove_file(path: Path, expected: FileVersion) -> bool:
    """Remove ``path`` unless it was touched or replaced since ``expected`` was read. Raises OSError.

    Of concurrent processes that saw the same file one removes it; none ever takes away a newer file.
    """
    with _locked(path.parent):
        if file_version(path) != expected:
            return False
        path.unlink()
    return True


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time check a file and remove it.

    The lock is on the directory, so that it leaves no file, and ends with the process. A file system without
    locks, or another process that never lets go, must not stop a run: then the check stands alone.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _lock(descriptor) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether there is nothing to wait for: the lock is taken, or the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _temporary_file(directory: Path, content: bytes) -> Iterator[Path]:
    """Yield a complete file, readable by all, under a name that no discovery pattern matches."""
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=PARTIAL_PREFIX, suffix=PARTIAL_SUFFIX)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, _READABLE)
            os.fsync(descriptor)  # NFS and quotas report a full disk only here, before the file is published
        yield partial
    finally:
        partial.unlink(missing_ok=True)
