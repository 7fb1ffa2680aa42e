"""The peer of the growing network that does not learn: the best script that a search has found."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.growing_baselines import follow, returns
from benchmarks.growing_scripts import BEST_SCRIPT
from benchmarks.learning_runs.log import (
    EPISODES,
    RETURN,
    STEPS,
    Made,
    digest,
    log_name,
    read_log,
    write_log,
)
from benchmarks.learning_runs.rows import ROOT, SCRIPT, Row
from rl_training.algorithm.episodes import WINDOW
from rl_training.environments.growing.environment import GrowingNetworkEnv

_SOURCES = ("training/rl_training/environments/growing", "benchmarks/growing_scripts.py")


def made(row: Row, seed: int) -> Made:
    """How such a run is made."""
    # As a log gives it back: JSON has no tuples.
    settings: dict[str, Any] = {"script": json.loads(json.dumps(asdict(BEST_SCRIPT)))}
    return Made(row.name, SCRIPT, (), seed, settings, digest(ROOT / name for name in _SOURCES))


def play(row: Row, seed: int, log: Path) -> None:
    """Play 100 episodes, which no search has seen: as many as the end of a run that learns is judged by."""
    how = made(row, seed)
    write_log(log, how, [{STEPS: 0, EPISODES: WINDOW, RETURN: _known(how, log.parent) or _played(seed)}])


def _known(how: Made, folder: Path) -> float | None:
    """What the script returned in another row: the rows of the growing network differ in the trainer alone."""
    for path in folder.glob(f"*--{log_name(SCRIPT)}--{how.seed}.jsonl"):
        log = read_log(path)
        if (log.made.settings, log.made.code) == (how.settings, how.code):
            return log.end
    return None


def _played(seed: int) -> float:
    torch.set_num_threads(1)
    found = returns(follow(BEST_SCRIPT), GrowingNetworkEnv(), range(seed * WINDOW, (seed + 1) * WINDOW))
    return statistics.fmean(found)
