"""The kinds of runs, and what intervenes in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from benchmarks.former_defaults import FORMER, SHORT
from rl_exporter.intervention.law import DEFAULT_GAINS, Gains
from rl_training.config import PPOConfig

HALF = replace(DEFAULT_GAINS, proportional=0.5, integral=0.1, slew=0.25)
"""The gains of the first prototype, from which the trials depart."""

TARGET = 0.4
"""The effective ratio at which the controller holds every head."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of run: what it is made of, and what is asked of an intervention.

    ``heads`` fall by design; without any, every head counts. ``moves_at``: the update at which the target
    moves. ``expects``: ``recovery`` of its heads, that they are then ``steady``, a ``gain``, or ``nothing``.
    """

    name: str
    why: str
    expects: tuple[str, ...]
    heads: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    learning: PPOConfig = field(default_factory=PPOConfig)
    num_envs: int = 8
    updates: int = 45
    moves_at: int = 0
    tries: bool = True
    """Whether choices of gains are tried on it, too."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))


def kinds() -> tuple[Kind, ...]:
    """Every kind of run."""
    return (*_drills(), *_premature(), *_left_alone())


def _drills() -> Iterator[Kind]:
    no_bonus = replace(SHORT, entropy_coefficient=0.05, entropy_multiplier={"blueprint": 0.0})
    yield Kind(
        name="paid",
        why="one action of blueprint pays in every state, and the head has no entropy bonus",
        expects=("recovery", "steady"),
        heads=("blueprint",),
        arguments={"paid_head": "blueprint", "single_action": True},
        learning=no_bonus,
        updates=60,
    )
    yield Kind(
        name="drift",
        why="nothing pays tempo, no head has a bonus, and the noise of tiny batches carries it off",
        expects=("recovery", "steady"),
        heads=("tempo",),
        arguments={"paid_head": "op", "contexts": 1},
        learning=replace(
            SHORT, rollout_steps=16, epochs=8, minibatches=1, learning_rate=1e-2, entropy_coefficient=0.0
        ),
        num_envs=2,
        updates=110,
    )
    yield Kind(
        name="moving",
        why="as paid; after 40 updates the paid action pays 0.6 and another one 1",
        expects=("recovery", "steady", "gain"),
        heads=("blueprint",),
        arguments={"paid_head": "blueprint"},
        learning=no_bonus,
        updates=90,
        moves_at=40,
    )


def _premature() -> Iterator[Kind]:
    yield Kind(
        name="premature",
        why="heads at the former defaults of the trainer, whose heads stop exploring before they have learned",
        expects=("gain",),
        learning=FORMER,
        num_envs=32,
        updates=250,
        tries=False,
    )
    yield Kind(
        name="trap",
        why="one action of blueprint pays 0.9 in every state, and another pays 1 in each: a premature collapse",
        expects=("recovery", "gain"),
        heads=("blueprint",),
        arguments={"paid_head": "blueprint", "safe_pay": 0.9, "contexts": 8},
        learning=replace(SHORT, entropy_coefficient=0.01, entropy_multiplier={"blueprint": 0.0}),
        updates=90,
    )


def _left_alone() -> Iterator[Kind]:
    yield Kind(
        name="healthy",
        why="an entropy bonus keeps every head exploring",
        expects=("nothing",),
        arguments={"noise": 20},
        learning=replace(SHORT, learning_rate=3e-4, entropy_coefficient=0.1),
        tries=False,
    )
    yield Kind(
        name="converging",
        why="heads with six contexts, which every head learns",
        expects=("nothing",),
        arguments={"contexts": 6},
        learning=replace(SHORT, entropy_coefficient=0.01),
    )
    yield Kind(
        name="converging-defaults",
        why="heads at the defaults of the trainer",
        expects=("nothing",),
        num_envs=32,
        updates=56,
        tries=False,
    )


@dataclass(frozen=True, kw_only=True)
class Means:
    """What intervenes: nothing, ``fixed`` nats more for every head, TRL's ``steps``, or a controller.

    ``gated``: whether the controller leaves heads alone that decide by the state.
    """

    name: str
    why: str
    fixed: float = 0.0
    steps: float = 0.0
    gains: Gains | None = None
    target: float = TARGET
    gated: bool = True
    trial: bool = False
    """A choice of gains that was tried, for the second table."""


def means() -> tuple[Means, ...]:
    """Everything that was tried."""
    return (
        Means(name="none", why="nothing intervenes"),
        Means(name="controller", why="the controller with its defaults", gains=DEFAULT_GAINS),
        Means(name="half gains", why="the controller with half of its gains and of its slew", gains=HALF),
        Means(name="fixed 0.05", why="0.05 nats more for every head, from the start", fixed=0.05),
        Means(name="fixed 0.2", why="0.2 nats more for every head, from the start", fixed=0.2),
        Means(
            name="steps 0.005", why="one coefficient for all heads, moved by TRL's 0.005 an update", steps=0.005
        ),
        Means(name="steps 0.05", why="the same with steps of 0.05", steps=0.05),
        *_trials(),
    )


def _trials() -> Iterator[Means]:
    tried: tuple[tuple[str, str, Gains], ...] = (
        ("gentle", "half of both of its gains", replace(HALF, proportional=0.25, integral=0.05)),
        ("integral only", "no proportional part", replace(HALF, proportional=0.0)),
        ("proportional only", "no integral", replace(HALF, proportional=1.0, integral=0.0)),
        ("slow decay", "the integral falls a third as fast", replace(HALF, decay=0.03)),
        ("quick decay", "the integral falls three times as fast", replace(HALF, decay=0.3)),
        ("slow release", "target and integral fall by a twentieth", replace(HALF, anneal=0.95)),
        ("at once", "no patience", replace(HALF, patience=1)),
    )
    for name, why, gains in tried:
        yield Means(name=name, why=why, gains=gains, trial=True)
    yield Means(name="target 0.3", why="a lower target", gains=HALF, target=0.3, trial=True)
    yield Means(name="ungated", why="acts on every low head, blind or not", gains=HALF, gated=False, trial=True)
