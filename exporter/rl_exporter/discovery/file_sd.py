"""The format of Prometheus' file-based discovery (file_sd_config): read, and written as whole files only.

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SUFFIXES = (".json", ".yml", ".yaml")
PARTIAL_PREFIX, PARTIAL_SUFFIX = ".", ".partial"
"""Of a file that is being written. Go's ``*`` matches a leading dot: the suffix keeps discovery away."""

_READABLE = 0o644
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


Version = tuple[int, int]
"""Number and modification time of a file."""


class TargetGroup(NamedTuple):
    """Targets, each HOST:PORT, and the labels that all of them get."""

    targets: Sequence[str]
    labels: Mapping[str, str]


def read_groups(path: Path) -> list[TargetGroup]:
    """The groups of a JSON or YAML file. Raises OSError, ValueError or yaml.YAMLError."""
    return parse_groups(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")


def parse_groups(text: str, *, is_json: bool = True) -> list[TargetGroup]:
    """The groups in ``text``. Raises ValueError or yaml.YAMLError that say what is wrong."""
    groups = json.loads(text) if is_json else yaml.safe_load(text)
    if not isinstance(groups, list):
        raise ValueError("it holds no list")
    return [_group(group) for group in groups]


def _group(group: Any) -> TargetGroup:
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
    """A file's content."""
    document = [{"targets": list(group.targets), "labels": dict(group.labels)} for group in groups]
    return json.dumps(document).encode() + b"\n"


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of ``path``; a reader sees the former file or this one. Raises OSError."""
    with _written(path.parent, content) as partial:
        partial.replace(path)


def create_file(path: Path, content: bytes) -> None:
    """Like ``replace_file``, but only where nothing is: else FileExistsError. Of several at once one succeeds.

    Where the file system has no hard links the last one wins instead.
    """
    with _written(path.parent, content) as partial:
        _link(path, partial)


def _link(path: Path, partial: Path) -> None:
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        # NFS may repeat a request whose answer was lost: a second link to our file is success (open(2)).
        if partial.stat().st_nlink != 2:
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        partial.replace(path)


def version(path: Path) -> Version:
    """Which file ``path`` is, and when it was last touched. Raises OSError."""
    status = path.lstat()
    return status.st_ino, status.st_mtime_ns  # numbers of removed files are used again at once


def remove_file(path: Path, expected: Version) -> bool:
    """Remove ``path`` unless it was touched since, or another file took its place. Raises OSError."""
    aside = path.with_name(f"{PARTIAL_PREFIX}{uuid.uuid4().hex}{PARTIAL_SUFFIX}")
    path.rename(aside)  # of several processes that do this at once one has the file
    same = version(aside) == expected
    try:
        if not same:
            with suppress(FileExistsError):
                _link(path, aside)
    finally:
        aside.unlink(missing_ok=True)
    return same


@contextmanager
def _written(directory: Path, content: bytes) -> Iterator[Path]:
    """A whole file, readable by all whatever the umask, under a name that no discovery pattern matches."""
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=PARTIAL_PREFIX, suffix=PARTIAL_SUFFIX)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, _READABLE)
            os.fsync(descriptor)  # NFS and quotas report a full disk here at the latest
        yield partial
    finally:
        partial.unlink(missing_ok=True)
