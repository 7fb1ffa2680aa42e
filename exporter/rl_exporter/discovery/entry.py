"""An entry: the target file of one run. Its name holds the run_id, its mtime is the last heartbeat."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from rl_exporter.discovery.file_sd import (
    PARTIAL_PREFIX,
    PARTIAL_SUFFIX,
    FileVersion,
    file_version,
    parse_groups,
    scope_of,
)
from rl_exporter.guarded import list_directory, read_file

ENTRY_SUFFIX = ".run.json"
"""Tells entries from target files that people wrote, which this project never removes."""

HEARTBEAT_SECONDS = 60.0
"""A run touches its entry this often.

It sets only the mtime, because a rewrite makes Prometheus read all files of the directory again.
"""

STALE_SECONDS = 300.0
"""Age of the last heartbeat, five of them missed, at which a run that does not answer either counts as dead."""

_LONGEST_STEM, _KEPT, _DIGEST_BYTES = 200, 120, 16
"""File names are limited to 255 bytes; a longer one is cut and told apart by a digest."""

_HALF_A_BYTE = re.compile("%[0-9A-F]?$")

MAX_ENTRIES = 10_000
"""Of a directory. The largest fleets have 3,000 runs."""

_MAX_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry, as read from its file.

    ``age``: seconds since the last heartbeat. ``address``: None before the run listens, and if the file is
    invalid; ``problem`` then gives the reason.
    """

    path: Path
    age: float
    version: FileVersion
    address: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def scheme(self) -> str:
        """http or https."""
        return self.labels.get("__scheme__", "http")

    @property
    def run_id(self) -> str:
        """The run_id, from the file name. Ends with an ellipsis if the name was too long to hold it."""
        stem, cut, _ = self.path.name.removesuffix(ENTRY_SUFFIX).partition("=")
        quoted = stem.partition("@")[0]
        if not cut:
            return unquote(quoted)
        # The cut may lie within a character, and within one of its bytes.
        return unquote(_HALF_A_BYTE.sub("", quoted), errors="ignore") + "…"


def entry_path(directory: Path, run_id: str, labels: Mapping[str, str]) -> Path:
    """Path of a run's entry. Cluster and namespace are part of it: another cluster may reuse a run_id."""
    # quote escapes slashes, and also the separator "@", so that two runs never share a file name.
    stem = "@".join(quote(part, safe="") for part in (run_id, *scope_of(labels))).rstrip("@")
    # The readable beginning stays, for people who list the directory.
    if len(stem) > _LONGEST_STEM:
        digest = hashlib.blake2b(stem.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        stem = f"{stem[:_KEPT]}={digest}"
    if stem.startswith("."):
        stem = "%2E" + stem[1:]  # ls and many globs skip hidden files
    return directory / (stem + ENTRY_SUFFIX)


def read_entry(path: Path) -> Entry:
    """Read an entry. Raises OSError; an invalid content becomes its ``problem``."""
    version = file_version(path)
    age = time.time() - version[1] / 1e9
    try:
        # No link is followed: runs write files, and others could point to anything.
        groups = parse_groups(read_file(path, _MAX_BYTES, follow=False).decode("utf-8"))
        if len(groups) != 1 or len(groups[0].targets) > 1:
            raise ValueError("it does not list one run")
    except ValueError as error:
        return Entry(path, age, version, problem=" ".join(str(error).split())[:200])
    return Entry(path, age, version, next(iter(groups[0].targets), None), groups[0].labels)


def read_entries(directory: Path) -> Iterator[Entry]:
    """Read the entries of a directory in the order of their names. Raises OSError if it cannot be listed.

    Of more than ``MAX_ENTRIES`` it reads that many.
    """
    for path in list_directory(directory, (ENTRY_SUFFIX,), MAX_ENTRIES)[0]:
        try:
            yield read_entry(path)
        except FileNotFoundError:
            continue  # its run ended just now
        except OSError as error:
            yield Entry(path, 0.0, (0, 0), problem=str(error.strerror))


def partial_files(directory: Path, older_than: float) -> list[Path]:
    """Temporary files that killed writers left behind, unchanged for ``older_than`` seconds or more."""
    names = directory.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}")
    return sorted(path for path in names if _seconds_unchanged(path) >= older_than)


def _seconds_unchanged(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
