"""Targets from a directory, in the format of Prometheus: JSON or YAML lists of target groups (file_sd_config).

https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rl_exporter.panel.addresses import Target, parse_target

SUFFIXES = (".json", ".yml", ".yaml")


class DiscoveryError(ValueError):
    """A file or directory that lists no targets; the message names it and says what is wrong."""


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
    text = path.read_text(encoding="utf-8")
    groups = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(groups, list):
        raise DiscoveryError("it holds no list")
    for group in groups:
        yield from _group(group)


def _group(group: Any) -> Iterator[Target]:
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
        raise DiscoveryError("a group has no list called targets")
    labels = group.get("labels") or {}
    if not isinstance(labels, dict):
        raise DiscoveryError("the labels of a group are no mapping")
    path = labels.get("__metrics_path__", "/metrics")
    for address in group["targets"]:
        if not isinstance(address, str) or "/" in address:
            raise DiscoveryError(f"target {address!r} is not HOST:PORT")
        yield parse_target(f"{labels.get('__scheme__', 'http')}://{address}{path}")
