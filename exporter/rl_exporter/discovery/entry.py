"""An entry: the file that says where one run is. Its name says which run, its mtime when it last lived."""

from __future__ import annotations

import hashlib
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from rl_exporter.discovery.file_sd import PARTIAL_PREFIX, PARTIAL_SUFFIX, Version, parse_groups, version

ENTRY_SUFFIX = ".run.json"
"""Tells entries from target files that people wrote."""

HEARTBEAT_SECONDS = 60.0
"""A run touches its entry this often. It never rewrites it: Prometheus would read every file again."""

STALE_SECONDS = 300.0
"""Five missed heartbeats: a run that does not answer either is taken for dead, and its entry may be pruned."""

_LONGEST_STEM, _KEPT, _DIGEST_BYTES = 200, 120, 16
_LARGEST = 2**16


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it was read.

    ``age``: seconds since the last heartbeat. ``address`` is None before the run listens, and where ``problem``
    says what is wrong with the file.
    """

    path: Path
    age: float
    version: Version
    address: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def run_id(self) -> str:
        """The run, from the name of the file; cut short, with an ellipsis, where it did not fit."""
        stem, cut, _ = self.path.name.removesuffix(ENTRY_SUFFIX).partition("=")
        return unquote(stem.partition("@")[0]) + ("…" if cut else "")


def entry_path(directory: Path, run_id: str, labels: Mapping[str, str]) -> Path:
    """Where the entry of a run is. A run is (cluster, namespace, run_id), and no two share a name."""
    parts = (run_id, labels.get("cluster", ""), labels.get("namespace", ""))
    stem = "@".join(quote(part, safe="") for part in parts).rstrip("@")
    if len(stem) > _LONGEST_STEM:
        digest = hashlib.blake2b(stem.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        stem = f"{stem[:_KEPT]}={digest}"
    if stem.startswith("."):
        stem = "%2E" + stem[1:]  # nothing hidden
    return directory / (stem + ENTRY_SUFFIX)


def read_entry(path: Path) -> Entry:
    """Read an entry. Raises OSError; what is wrong with its content is its ``problem``."""
    seen = version(path)
    age = time.time() - seen[1] / 1e9
    try:
        groups = parse_groups(_text(path))
        if len(groups) != 1 or len(groups[0].targets) > 1:
            raise ValueError("it does not list one run")
    except ValueError as error:
        return Entry(path, age, seen, problem=" ".join(str(error).split())[:200])
    return Entry(path, age, seen, next(iter(groups[0].targets), None), groups[0].labels)


def _text(path: Path) -> str:
    """Content of a file in a directory where others may write: no pipe to wait at, no device to read from."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise ValueError("it is no file, or larger than an entry")
    return path.read_text(encoding="utf-8")


def read_entries(directory: Path) -> Iterator[Entry]:
    """All entries of a directory by name. Raises OSError when it cannot be listed."""
    for path in sorted(path for path in directory.iterdir() if path.name.endswith(ENTRY_SUFFIX)):
        try:
            yield read_entry(path)
        except FileNotFoundError:
            continue  # its run ended just now
        except OSError as error:
            yield Entry(path, 0.0, (0, 0), problem=str(error.strerror))


def partial_files(directory: Path, older_than: float) -> list[Path]:
    """What writers that were killed left behind, last changed ``older_than`` seconds ago or more."""
    names = directory.glob(f"{PARTIAL_PREFIX}*{PARTIAL_SUFFIX}")
    return sorted(path for path in names if _age(path) >= older_than)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
