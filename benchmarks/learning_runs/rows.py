"""The rows of the benchmark: an environment, a number of steps, how ``rl-train`` runs it, and its peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rl_training.config import Settings
from rl_training.run.cli import parser, settings_from

ROOT = Path(__file__).parents[2]

GROWING = "growing-network"
CARTPOLE = "CartPole-v1"
HEADS_STEPS = 57_600
CARTPOLE_STEPS = 100_000
GROWING_STEPS = 200 * 32 * 12
"""Of 200 updates of 32 environments x 12 steps."""

AS_OURS = "as rl-train"
"""Of a peer: with the settings of ``rl-train``."""
SCRIPT = "best script"
"""The peer that does not learn: the best of the scripts that a search over the growing network tried."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. ``options`` are those of ``rl-train`` beside seed and limits."""

    name: str
    environment: str
    steps: int
    peers: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    slow: bool = False
    """A run takes minutes: left out of ``--rows quick``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command line of ``rl-train`` beside seed and limits."""
        given = (word for pair in self.arguments.items() for word in ("--env-arg", f"{pair[0]}={pair[1]}"))
        return ("--env", self.environment, *given, *self.options)


def rows() -> tuple[Row, ...]:
    """Every row, in the order of the page."""
    return (*_heads(), *_cartpole(), *_growing())


def _heads() -> Iterator[Row]:
    yield Row(
        name="heads",
        environment="heads",
        steps=HEADS_STEPS,
        peers=("MaskablePPO", f"MaskablePPO {AS_OURS}", "MaskablePPO 32x12"),
    )
    yield Row(
        name="heads-table",
        environment="heads",
        steps=HEADS_STEPS,
        peers=("MaskablePPO", f"MaskablePPO {AS_OURS}", "MaskablePPO 32x12"),
        arguments={"consult": "table"},
    )
    yield Row(
        name="heads-delay",
        environment="heads",
        steps=HEADS_STEPS,
        peers=(
            "RecurrentPPO",
            f"RecurrentPPO {AS_OURS}",
            f"MaskablePPO {AS_OURS}",
            "RecurrentPPO 32x12",
            "MaskablePPO 32x12",
        ),
        arguments={"delay": 1},
    )


def _cartpole() -> Iterator[Row]:
    yield Row(
        name="cartpole",
        environment=CARTPOLE,
        steps=CARTPOLE_STEPS,
        peers=("PPO", f"PPO {AS_OURS}", "RecurrentPPO", "PPO 32x12"),
    )
    options = documented_cartpole()
    settings = settings_of(options)
    steps = (settings.run.updates or 0) * steps_of_an_update(settings)
    yield Row(name="cartpole-command", environment=CARTPOLE, steps=steps, peers=("PPO",), options=options)


def _growing() -> Iterator[Row]:
    yield Row(
        name="growing",
        environment=GROWING,
        steps=GROWING_STEPS,
        peers=(SCRIPT,),
        slow=True,
    )
    yield Row(
        name="growing-long",
        environment=GROWING,
        steps=GROWING_STEPS,
        peers=(SCRIPT,),
        options=("--config", str(ROOT / "benchmarks/train-long.yml")),
        slow=True,
    )


def documented_cartpole() -> tuple[str, ...]:
    """The options of the CartPole command in docs/train.md, without the name of the environment."""
    page = (ROOT / "docs/train.md").read_text(encoding="utf-8")
    command = f"rl-train --env {CARTPOLE} "
    line = next(line for line in page.splitlines() if command in line)
    return tuple(line.partition(command)[2].split())


def settings_of(words: tuple[str, ...]) -> Settings:
    """The effective settings of a command line of ``rl-train``. Ends the program for an impossible one."""
    return settings_from(parser().parse_args(words))


def steps_of_an_update(settings: Settings) -> int:
    """Environment steps between two updates."""
    return settings.run.num_envs * settings.learning.rollout_steps
