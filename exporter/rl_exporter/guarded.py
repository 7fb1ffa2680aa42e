"""Reads what others have written, with limits: kind of file, size, nesting.

Others may write to a discovery directory, and anybody may post to a port. A pipe, a device, a sparse file or a
deeply nested document must cost a reader one error, not its memory or its time.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml

MAX_DEPTH = 32
"""Lists and mappings inside each other. Target files need four, notifications of Alertmanager three."""

_MAX_VALUES = 100_000
"""Values in a YAML document, with every alias counted as what it stands for."""

_MAX_SCALAR = 4096
"""Characters of one YAML scalar. Resolving a long one as a number takes a time that grows with its square."""

# libyaml reads some ten times faster, and is part of nearly every PyYAML.
_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnacceptableError(ValueError):
    """What others have written exceeds a limit. The message is one line with the limit."""


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY, *, follow: bool = True) -> Iterator[int]:
    """Open a regular file without ever waiting for it. Yields the descriptor.

    Raises UnacceptableError for anything but a regular file, OSError as ``os.open``. With ``follow=False`` a
    symbolic link is no regular file either.
    """
    # Looked at first, because opening a device may already do something.
    _require_regular(path.stat() if follow else path.lstat())
    # O_NONBLOCK: a pipe has no writer to wait for, and a file under somebody's lease is refused at once.
    never_wait = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags | never_wait)
    try:
        _require_regular(os.fstat(descriptor))  # it may have been replaced in between
        yield descriptor
    finally:
        os.close(descriptor)


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnacceptableError("it is no regular file")


def read_file(path: Path, max_bytes: int, *, follow: bool = True) -> bytes:
    """Read a regular file of at most ``max_bytes``. Raises UnacceptableError and OSError."""
    with opened(path, follow=follow) as descriptor:
        return read_descriptor(descriptor, max_bytes)


def read_descriptor(descriptor: int, max_bytes: int) -> bytes:
    """Read an open regular file from its beginning. Raises UnacceptableError and OSError."""
    # By the bytes and not by the size that the file system states: a file may grow meanwhile.
    content = b""
    while chunk := os.pread(descriptor, max_bytes + 1 - len(content), len(content)):
        content += chunk
    if len(content) > max_bytes or os.fstat(descriptor).st_size > max_bytes:
        raise UnacceptableError(f"it is larger than {max_bytes // 1024} KiB")
    return content


def list_directory(directory: Path, suffixes: tuple[str, ...], limit: int) -> tuple[list[Path], bool]:
    """List at most ``limit`` files whose names end so, sorted, and whether there are more. Raises OSError."""
    matching = (path for path in directory.iterdir() if path.name.endswith(suffixes))
    paths = list(islice(matching, limit + 1))
    return sorted(paths[:limit]), len(paths) > limit


def parse_json(text: str | bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Parse JSON that is nested at most ``max_depth`` deep. Raises ValueError."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise _too_deep(max_depth) from None
    level = [document]
    for _ in range(max_depth):
        level = [child for value in level for child in _children(value)]
        if not level:
            return document
    raise _too_deep(max_depth)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep(max_depth: int) -> UnacceptableError:
    return UnacceptableError(f"it is nested more than {max_depth} levels deep")


def parse_yaml(text: str, max_depth: int = MAX_DEPTH) -> Any:
    """Parse YAML of limited depth and size, also after its aliases are replaced. Raises ValueError, YAMLError.

    Only plain data: tags construct no objects.
    """
    extents = _Extents(max_depth)
    for event in yaml.parse(text, Loader=_YAML_LOADER):
        extents.add(event)
    try:
        return yaml.load(text, Loader=_YAML_LOADER)  # noqa: S506 - a safe loader
    except (AttributeError, LookupError, TypeError, ArithmeticError) as error:
        # PyYAML's constructors let these through, for example for "!!bool maybe".
        raise UnacceptableError(f"a value does not fit its tag: {error!r}") from error


class _Extent(NamedTuple):
    """Number of values in a part of a document, and how deep it is nested."""

    values: int
    height: int


class _Extents:
    """Measures a YAML document from its events, before the loader builds anything, and without recursion.

    An alias counts as what it stands for: a bomb of a hundred bytes holds more values than memory does.
    """

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._named: dict[str, _Extent] = {}
        self._open: list[tuple[str | None, _Extent]] = [(None, _Extent(0, 0))]

    def add(self, event: yaml.Event) -> None:
        """Count one event. Raises UnacceptableError."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append((event.anchor, _Extent(1, 1)))
            if len(self._open) > self._max_depth + 1:
                raise _too_deep(self._max_depth)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(*self._open.pop())
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > _MAX_SCALAR:
                raise UnacceptableError(f"a value is longer than {_MAX_SCALAR} characters")
            self._close(event.anchor, _Extent(1, 0))
        elif isinstance(event, yaml.AliasEvent):
            part = self._named.get(event.anchor or "")
            if part is None:
                raise UnacceptableError(f"alias {event.anchor!r} stands for itself, or for nothing")
            self._close(None, part)

    def _close(self, name: str | None, part: _Extent) -> None:
        """Count a complete part into the collection that holds it."""
        if name is not None:
            self._named[name] = part
        outer, so_far = self._open[-1]
        values = so_far.values + part.values
        if values > _MAX_VALUES:
            raise UnacceptableError(f"it holds more than {_MAX_VALUES} values")
        if len(self._open) - 1 + part.height > self._max_depth:
            raise _too_deep(self._max_depth)
        self._open[-1] = outer, _Extent(values, max(so_far.height, part.height + 1))
