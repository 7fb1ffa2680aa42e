"""Reads the targets in a directory of target files, as Prometheus does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml

from rl_exporter.client.addresses import Target, parse_target
from rl_exporter.discovery.file_sd import SUFFIXES, read_groups, scope_of
from rl_exporter.guarded import list_directory
from rl_exporter.view.cells import printable

MAX_FILES = 10_000
"""Files of a directory that are looked at, and targets that are taken. The largest fleets have 3,000 runs."""

_MAX_SECONDS = 10.0
"""For a whole directory, so that many large files do not keep its reader busy."""

_MAX_PROBLEMS = 20
"""More lines than these hide the runs; the rest is counted."""


class DiscoveryError(ValueError):
    """A directory cannot be read. The message names it and gives the reason."""


def require_directory(directory: Path) -> None:
    """Raise DiscoveryError unless ``directory`` can be read."""
    try:
        next(directory.iterdir(), None)
    except OSError as error:
        raise DiscoveryError(
            f"{str(directory)!r}: {error.strerror}; give a directory of target files"
        ) from error


def read_directory(directory: Path) -> tuple[list[Target], list[str]]:
    """Read all targets of a directory, each once, in the order of the files. Returns them and the problems.

    One bad file is a problem and not an error, because Prometheus also goes on with the other files.
    """
    try:
        paths, more = list_directory(directory, SUFFIXES, MAX_FILES)
    except OSError as error:
        return [], [f"{str(directory)!r}: {error.strerror}"]
    targets: dict[str, Target] = {}
    problems: list[str] = []
    deadline = time.monotonic() + _MAX_SECONDS
    for path in paths:
        try:
            targets |= {target.url: target for target in _read_file(path)}
        except FileNotFoundError:
            continue  # its run ended after the directory was listed
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{str(path)!r} is no list of targets: {_one_line(error)}")
        if time.monotonic() > deadline or len(targets) > MAX_FILES:
            more = path != paths[-1] or len(targets) > MAX_FILES
            break
    return list(targets.values())[:MAX_FILES], [*_first(problems), *_incomplete(directory, more)]


def _incomplete(directory: Path, more: bool) -> Iterator[str]:
    if more:
        limits = f"{MAX_FILES} files, {MAX_FILES} targets or {_MAX_SECONDS:g} s of reading"
        yield f"{str(directory)!r} is shown in part: it takes more than {limits}; give runs one of their own"


def _first(problems: list[str]) -> list[str]:
    left_out = len(problems) - _MAX_PROBLEMS
    return [*problems[:_MAX_PROBLEMS], f"and {left_out} more files"] if left_out > 0 else problems


def _one_line(error: Exception) -> str:
    text = str(error.strerror) if isinstance(error, OSError) else str(error)
    return printable(" ".join(text.split())[:200])


def _read_file(path: Path) -> Iterator[Target]:
    for addresses, labels in read_groups(path):
        scheme, location = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
        for address in addresses:
            yield replace(parse_target(f"{scheme}://{address}{location}"), scope=scope_of(labels))
