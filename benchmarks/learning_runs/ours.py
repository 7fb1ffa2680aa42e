"""Runs of ``rl-train``: its command line, the settings that it makes effective, and its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.learning_runs.log import Made, digest, write_log
from benchmarks.learning_runs.rows import GROWING, ROOT, Row, settings_of, steps_of_an_update
from rl_training.run.settings import dump

OURS = "rl-train"

_SOURCES = ("algorithm", "policy", "environments", "config.py", "action_space.py", "optimizer.py")
_RUN_KEYS = ("env", "num-envs", "updates", "seed")
_NO_INFLUENCE = ("workers",)
"""Arguments of an environment that change how fast it is, and no number of a run."""


def command(row: Row, overrides: Sequence[str], seed: int) -> tuple[str, ...]:
    """The options of a run that trains for at most the steps of the row."""
    words = (*row.words, *_words(overrides))
    updates = row.steps // steps_of_an_update(settings_of(words))
    return (*words, "--updates", str(updates), "--seed", str(seed))


def _words(overrides: Sequence[str]) -> Iterator[str]:
    """Options from KEY=VALUE; true and false make switches."""
    for override in overrides:
        key, _, value = override.partition("=")
        if value in {"true", "false"}:
            yield f"--{key}" if value == "true" else f"--no-{key}"
        else:
            yield from (f"--{key}", value)


def made(row: Row, overrides: Sequence[str], seed: int) -> Made:
    """How such a run is made with the code as it is."""
    whole = yaml.safe_load(dump(settings_of(command(row, overrides, seed))))
    environment = {key: value for key, value in whole["environment"].items() if key not in _NO_INFLUENCE}
    settings = {
        "run": {key: whole["run"][key] for key in _RUN_KEYS},
        "environment": environment,
        "learning": whole["learning"],
    }
    sources = digest(ROOT / "training/rl_training" / name for name in _SOURCES)
    return Made(row.name, OURS, tuple(overrides), seed, settings, sources)


def train(row: Row, overrides: Sequence[str], seed: int, log: Path, workers: int = 1) -> None:
    """Train one run in a process of its own, and the growing network in ``workers`` more.

    Raises RuntimeError with its last line where it fails, and where a signal ended it early.
    """
    how = made(row, overrides, seed)
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "log.jsonl"
        hidden = ("--log-json", str(lines), "--listen", "127.0.0.1:0", "--linger", "0", "--quiet")
        shared = ("--env-arg", f"workers={workers}") if row.environment == GROWING else ()
        words = [sys.executable, "-m", "rl_training", *command(row, overrides, seed), *shared, *hidden]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"{row.name}, seed {seed}: rl-train ended with {ended.returncode}: {last}")
        updates = [json.loads(line) for line in lines.read_text().splitlines()]
        # A run that is asked to end does so in good order, with status 0.
        if len(updates) < (wanted := how.settings["run"]["updates"]):
            raise RuntimeError(f"{row.name}, seed {seed}: interrupted after {len(updates)} of {wanted} updates")
        write_log(log, how, [_scalars(update) for update in updates])


def _scalars(line: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the run; those of its heads would make the logs fifty times as large."""
    return {name: value for name, value in line.items() if isinstance(value, int | float)}
