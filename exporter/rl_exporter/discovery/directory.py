"""Targets from a directory of target files, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from rl_exporter.client.addresses import Target, parse_target
from rl_exporter.discovery.file_sd import SUFFIXES, read_groups


class DiscoveryError(ValueError):
    """A directory that cannot be read; the message names it and says what is wrong."""


def require_directory(directory: Path) -> None:
    """Raise DiscoveryError unless ``directory`` can be read."""
    try:
        next(directory.iterdir(), None)
    except OSError as error:
        raise DiscoveryError(
            f"{str(directory)!r}: {error.strerror}; give a directory of target files"
        ) from error


def read_directory(directory: Path) -> tuple[list[Target], list[str]]:
    """All targets of a directory in the order of its files, each once, and what is wrong with which file."""
    targets: dict[str, Target] = {}
    problems: list[str] = []
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    except OSError as error:
        return [], [f"{str(directory)!r}: {error.strerror}"]
    for path in paths:
        try:
            targets |= {target.url: target for target in _read_file(path)}
        except FileNotFoundError:
            continue  # it went away after the directory was listed: the run ended
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{str(path)!r} is no list of targets: {' '.join(str(error).split())[:200]}")
    return list(targets.values()), problems


def _read_file(path: Path) -> Iterator[Target]:
    for addresses, labels in read_groups(path):
        scheme, location = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
        yield from (parse_target(f"{scheme}://{address}{location}") for address in addresses)
