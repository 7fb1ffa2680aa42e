"""The log of a run: a line that says how it was made, then what it had reached after so many steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_training.algorithm.episodes import WINDOW

STEPS = "rl_training_environment_steps_total"
EPISODES = "rl_training_episodes_total"
RETURN = "rl_training_episode_return"
"""Mean return of the last 100 finished episodes. The logs of the peers use the same names."""


@dataclass(frozen=True, slots=True)
class Made:
    """How a run was made."""

    row: str
    who: str
    overrides: tuple[str, ...]
    seed: int
    settings: Mapping[str, Any]
    """What decides the run, as it was effective."""
    code: str
    """Digest of the sources that decide the run."""


@dataclass(frozen=True, slots=True)
class RunLog:
    """One complete run."""

    made: Made
    steps: tuple[int, ...]
    returns: tuple[float, ...]
    """Mean return of the last 100 episodes, at each of ``steps``; from the first finished episode on."""
    episodes: int

    @property
    def end(self) -> float:
        """The mean return of the last 100 episodes at the end of the run, never a maximum over it."""
        return self.returns[-1]


class LogError(ValueError):
    """A log that cannot be judged; the message names it, the reason and the remedy."""


def log_name(*names: str) -> str:
    """The part of a log's name that says who trained, with which settings of its own."""
    return ",".join(names).replace(" ", "-").replace("/", "_")


def write_log(path: Path, made: Made, points: Iterable[Mapping[str, Any]]) -> None:
    """Write the log of a complete run. ``path`` appears as a whole, so no half log is kept."""
    partial = path.with_suffix(".partial")
    head = {name: getattr(made, name) for name in Made.__dataclass_fields__}
    lines = [json.dumps(head), *(json.dumps(dict(point)) for point in points)]
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)


def read_log(path: Path) -> RunLog:
    """Read a log back. Raises LogError where fewer than 100 episodes have ended."""
    head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    points = [line for line in lines if RETURN in line]
    episodes = int(points[-1][EPISODES]) if points else 0
    if episodes < WINDOW:
        raise LogError(
            f"{path.name}: {episodes} episodes ended, of {WINDOW} that are judged; give the row more steps"
        )
    return RunLog(
        made_from(head),
        tuple(int(point[STEPS]) for point in points),
        tuple(float(point[RETURN]) for point in points),
        episodes,
    )


def read_made(path: Path) -> Made:
    """How the run of a log was made."""
    with path.open(encoding="utf-8") as lines:
        return made_from(json.loads(next(lines)))


def made_from(head: Mapping[str, Any]) -> Made:
    """From what JSON gives back."""
    return Made(**{**head, "overrides": tuple(head["overrides"])})


def digest(paths: Iterable[Path]) -> str:
    """A short digest of source files, and of those in folders."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    return found.hexdigest()[:12]
