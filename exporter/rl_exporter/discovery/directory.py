"""Reads the targets in a directory of target files, as Prometheus does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from rl_exporter.client.addresses import Target, parse_target
from rl_exporter.discovery.file_sd import SUFFIXES, read_groups


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
            continue  # its run ended after the directory was listed
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{str(path)!r} is no list of targets: {' '.join(str(error).split())[:200]}")
    return list(targets.values()), problems


def _read_file(path: Path) -> Iterator[Target]:
    for addresses, labels in read_groups(path):
        scheme, location = labels.get("__scheme__", "http"), labels.get("__metrics_path__", "/metrics")
        yield from (parse_target(f"{scheme}://{address}{location}") for address in addresses)
