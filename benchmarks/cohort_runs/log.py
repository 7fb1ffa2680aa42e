"""Reads the log of a run back into what each update measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_exporter.heads import Head, Heads
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement

_MAXIMUM = "rl_policy_head_entropy_max_nats"
_AGE = "rl_policy_head_unmeasured_updates"
_SHARES = "rl_policy_head_action_ratio"
_RETURN = "rl_training_episode_return"


@dataclass(frozen=True, slots=True)
class Update:
    """What one update of a run measured."""

    heads: Mapping[str, HeadMeasurement]
    episode_return: float | None


@dataclass(frozen=True, slots=True)
class RunLog:
    """The updates of one run, and the heads of its policy."""

    heads: Heads
    updates: tuple[Update, ...]


def read_log(path: Path) -> RunLog:
    """The log of a run, as ``--log-json`` wrote it."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    choices = {name: round(math.exp(most)) for name, most in lines[-1][_MAXIMUM].items()}
    heads = Heads([Head(name, count) for name, count in choices.items()])
    return RunLog(heads, tuple(_update(line, heads) for line in lines))


def _update(line: Mapping[str, Any], heads: Heads) -> Update:
    return Update({name: _measurement(line, name) for name in heads.names}, line.get(_RETURN))


def _measurement(line: Mapping[str, Any], head: str) -> HeadMeasurement:
    """What a line says of a head; nothing where its numbers are those of an earlier update."""
    if line.get(_AGE, {}).get(head) != 0:
        return HeadMeasurement()
    numbers = {number.name: line.get(number.row.metric, {}).get(head) for number in attributes(HeadNumbers)}
    shares = line.get(_SHARES, {}).get(head)
    return HeadMeasurement(**numbers, action_shares=tuple(shares.values()) if shares else None)
