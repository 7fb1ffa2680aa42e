"""Reads and writes target files, the format of Prometheus' file-based discovery (file_sd_config).

Prometheus reads a file whenever it changes, so every write replaces the file as a whole: a half-written one
would drop its targets.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rl_exporter.guarded import parse_json, parse_yaml, read_file

SUFFIXES = (".json", ".yml", ".yaml")
PARTIAL_PREFIX, PARTIAL_SUFFIX = ".", ".partial"
"""Name of a file during a write. The dot does not hide it from Go's ``*``, but the suffix does."""

MAX_BYTES = 2**20
"""Of a target file. 10,000 targets are half of it."""

_LONGEST_ADDRESS = 300
"""Characters; a host name has at most 253."""

_READABLE = 0o644
"""mkstemp makes files private, but Prometheus reads as another user."""

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

FileVersion = tuple[int, int]
"""Inode and modification time of a file."""


class TargetGroup(NamedTuple):
    """Targets, each HOST:PORT, and the labels that Prometheus adds to all of them."""

    targets: Sequence[str]
    labels: Mapping[str, str]


def scope_of(labels: Mapping[str, str]) -> tuple[str, str]:
    """Cluster and namespace of a target, empty without the label. Within them a run_id is one run at a time."""
    return labels.get("cluster", ""), labels.get("namespace", "")


def read_groups(path: Path) -> list[TargetGroup]:
    """Read the groups of a JSON or YAML file. Raises OSError, ValueError or yaml.YAMLError."""
    # Links are followed: Kubernetes mounts every file as one.
    text = read_file(path, MAX_BYTES).decode("utf-8")
    return parse_groups(text, is_json=path.suffix == ".json")


def parse_groups(text: str, *, is_json: bool = True) -> list[TargetGroup]:
    """Parse the groups in ``text``. Raises ValueError or yaml.YAMLError with the reason."""
    groups = parse_json(text) if is_json else parse_yaml(text)
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
        if not isinstance(address, str) or "/" in address or len(address) > _LONGEST_ADDRESS:
            raise ValueError(f"target {_excerpt(address)} is not HOST:PORT")
    return TargetGroup(group["targets"], {str(name): _label_value(labels[name]) for name in labels})


def _label_value(value: Any) -> str:
    # YAML reads a port or a version as a number, and Prometheus takes it as it is written.
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"the value {_excerpt(value)} of a label is no text")
    return str(value)


def _excerpt(value: Any) -> str:
    return repr(value)[:80]


def dump_groups(*groups: TargetGroup) -> bytes:
    """The content of a target file with these groups."""
    document = [{"targets": list(group.targets), "labels": dict(group.labels)} for group in groups]
    return json.dumps(document).encode() + b"\n"


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``. A reader sees the old file or the new one, no part. Raises OSError."""
    with new_file(path.parent, content) as partial:
        partial.replace(path)


def create_file(path: Path, content: bytes) -> None:
    """Like ``replace_file``, but raises FileExistsError if the file exists. One of concurrent calls wins."""
    with new_file(path.parent, content) as partial:
        try:
            # A hard link, because creating one fails where the name exists; a rename would replace it silently.
            path.hardlink_to(partial)
        except FileExistsError:
            # An NFS client repeats a request whose answer was lost: a link to our own file is success
            # (open(2)).
            if not _is_same(path, partial):
                raise
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _create_in_place(path, content)


def _is_same(path: Path, partial: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), partial.lstat())
    except FileNotFoundError:
        return False  # it was there, and is gone by now


def _create_in_place(path: Path, content: bytes) -> None:
    """For a file system without hard links. A reader may see a part, which lists no target yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READABLE)
    try:
        _write(descriptor, content)
    except OSError:
        path.unlink()
        raise


def file_version(path: Path) -> FileVersion:
    """Identify a file and its last heartbeat. Raises OSError."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns  # not the inode alone: a new file may reuse that of a removed one


@contextmanager
def new_file(directory: Path, content: bytes) -> Iterator[Path]:
    """Yield a complete file, readable by all, under a name that no discovery pattern matches.

    It is removed at the end unless it has been renamed. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=PARTIAL_PREFIX, suffix=PARTIAL_SUFFIX)
    partial = Path(name)
    try:
        _write(descriptor, content)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _write(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(descriptor, _READABLE)
        os.fsync(descriptor)  # NFS and quotas report a full disk only here, before the file is published
