"""The kinds of runs of the cohort. Each label follows from how the kind is made, never from what was measured.

The runs are short, since a run has to fit into a few seconds: small rollouts and high learning rates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.cohort_runs.cues import CUES_ID
from benchmarks.cohort_runs.recipe import Label, Recipe
from benchmarks.former_defaults import FORMER, SHORT
from rl_training.config import PPOConfig
from rl_training.setting_kinds import Critic

_GROWING = {"workers": 1, "samples": 64, "plateau_epochs": 10}


FIRST_SEED = 100
"""Recipes, measure and threshold were chosen on runs of the seeds below."""


def recipes(critic: Critic = "shared") -> tuple[Recipe, ...]:
    """Every kind of run, with this critic. Runs with a critic of their own do not get stuck."""
    kinds = (
        *_drills(),
        *_flaws(),
        *_cut(),
        *_drift(),
        *_wait(),
        *_stuck(),
        *_learned(),
        *_constant(),
        *_harmless(),
    )
    return tuple(
        replace(kind, learning=replace(kind.learning, critic=critic))
        for kind in kinds
        if critic == "shared" or kind.label is not Label.STUCK
    )


def runs(kinds: tuple[Recipe, ...]) -> tuple[tuple[Recipe, int], ...]:
    """Every run of these kinds: recipe and seed."""
    return tuple((recipe, seed) for recipe in kinds for seed in range(FIRST_SEED, FIRST_SEED + recipe.seeds))


def _drills() -> Iterator[Recipe]:
    """One action of one head is paid in every state, and the head gets no entropy bonus."""
    for head, seeds in (("blueprint", 4), ("style", 4), ("op", 4), ("alpha_curve", 4)):
        learning = replace(SHORT, entropy_coefficient=0.05, entropy_multiplier={head: 0.0})
        yield Recipe(
            name=f"drill-{head}",
            label=Label.COLLAPSED,
            why="one action of one head pays in every state, and nothing else does",
            seeds=seeds,
            heads=(head,),
            arguments={"paid_head": head, "single_action": True},
            learning=learning,
            updates=40,
        )


def _flaws() -> Iterator[Recipe]:
    """Reward hacking: beside what the heads are meant to learn, a flaw pays one action of the first head."""
    yield Recipe(
        name="reward-flaw",
        label=Label.COLLAPSED,
        why="a flaw in the reward pays one action of a head more than all that the heads should learn",
        seeds=6,
        heads=("head_0",),
        environment=CUES_ID,
        arguments={"sizes": (4, 4, 3), "flaw": 1.0},
        learning=SHORT,
        updates=30,
    )


def _cut() -> Iterator[Recipe]:
    """A head that sees nothing of the state: all it can learn is a preference."""
    for head, contexts in (("blueprint", 4), ("tempo", 5)):
        yield Recipe(
            name=f"cut-{head}",
            label=Label.COLLAPSED,
            why="the input of a head is cut, so that it cannot see what it should decide by",
            seeds=6,
            heads=(head,),
            arguments={"contexts": contexts},
            learning=replace(SHORT, learning_rate=1e-2, entropy_multiplier={head: 0.0}),
            updates=50,
            cut_head=head,
        )


def _drift() -> Iterator[Recipe]:
    """Nothing pays the head, and nothing holds its entropy: the noise of tiny batches carries it off."""
    learning = replace(
        SHORT, rollout_steps=16, epochs=8, minibatches=1, learning_rate=1e-2, entropy_coefficient=0.0
    )
    for name, cut, contexts, seeds in (("drift", "", 1, 5), ("drift-cut", "tempo", 4, 3)):
        yield Recipe(
            name=name,
            label=Label.COLLAPSED,
            why="nothing pays the head; without an entropy bonus the noise of tiny batches carries it off",
            seeds=seeds,
            heads=("tempo",),
            spared=False,
            arguments={"paid_head": "op", "contexts": contexts},
            learning=learning,
            num_envs=2,
            updates=110,
            cut_head=cut,
        )


def _wait() -> Iterator[Recipe]:
    """A host that needs nothing: whatever is grown costs rent, and op sinks to WAIT."""
    yield Recipe(
        name="sinks-to-wait",
        label=Label.COLLAPSED,
        why="growing never pays, so that op waits whatever it sees",
        seeds=5,
        heads=("op",),
        environment="growing-network",
        arguments={**_GROWING, "rent": 0.05},
        learning=replace(FORMER, rollout_steps=28, learning_rate=3e-3, entropy_coefficient=0.001),
        updates=40,
    )


def _stuck() -> Iterator[Recipe]:
    """Premature collapse as it happens: the defaults with a higher learning rate, with and without a bonus."""
    rate = 1e-3
    for name, entropy in (("stuck-defaults", 0.01), ("stuck-no-bonus", 0.0)):
        yield Recipe(
            name=name,
            label=Label.STUCK,
            why="the defaults with a higher learning rate, ended early",
            seeds=5,
            learning=replace(FORMER, learning_rate=rate, entropy_coefficient=entropy),
            num_envs=32,
            updates=50,
            returns=(0.0, 14.0),
        )


def _learned() -> Iterator[Recipe]:
    """Runs that solve their task."""
    solved = replace(SHORT, entropy_coefficient=0.01)
    kinds: tuple[tuple[str, dict[str, Any], PPOConfig, int], ...] = (
        ("4-contexts", {"contexts": 4}, solved, 6),
        ("6-contexts", {"contexts": 6}, solved, 5),
        ("12-contexts", {"contexts": 12}, solved, 5),
        ("3-contexts", {"contexts": 3}, solved, 5),
        ("noise", {"contexts": 6, "noise": 8}, solved, 4),
        ("delay", {"contexts": 6, "delay": 1}, solved, 5),
        ("masks", {"consult": "table"}, replace(solved, rollout_steps=64), 5),
        ("no-bonus", {"contexts": 6}, replace(SHORT, learning_rate=1e-2, entropy_coefficient=0.0), 5),
    )
    for name, arguments, learning, seeds in kinds:
        yield Recipe(
            name=f"solved-{name}",
            label=Label.LEARNED,
            why="heads, solved",
            seeds=seeds,
            arguments=arguments,
            learning=learning,
            updates=45,
            returns=(15.0, 16.0),
        )
    yield Recipe(
        name="cartpole",
        label=Label.LEARNED,
        why="CartPole, solved",
        seeds=6,
        environment="CartPole-v1",
        learning=replace(FORMER, rollout_steps=64, learning_rate=1e-3, entropy_coefficient=0.0),
        num_envs=16,
        updates=300,
        returns=(475.0, 500.0),
    )
    yield Recipe(
        name="solved-quiet",
        label=Label.LEARNED,
        why="action 0 is right at 95 % of the steps, and the state says what is right at the others",
        seeds=6,
        environment=CUES_ID,
        arguments={"sizes": (4, 4, 3), "quiet": 0.95},
        learning=SHORT,
        updates=45,
        returns=(15.5, 16.0),
    )


def _constant() -> Iterator[Recipe]:
    """One action is best in every state."""
    yield Recipe(
        name="constant",
        label=Label.CONSTANT,
        why="there is one state only, so that one preference is right",
        seeds=5,
        arguments={"contexts": 1},
        learning=replace(SHORT, entropy_coefficient=0.0),
        updates=40,
    )


def _harmless() -> Iterator[Recipe]:
    """Nothing is low where a head decides."""
    yield Recipe(
        name="healthy",
        label=Label.HARMLESS,
        why="an entropy bonus that keeps every head exploring",
        seeds=5,
        arguments={"noise": 20},
        learning=replace(SHORT, learning_rate=3e-4, entropy_coefficient=0.1),
        updates=40,
    )
    yield Recipe(
        name="diluted",
        label=Label.HARMLESS,
        why="masks leave most heads little choice at most steps",
        seeds=5,
        environment="growing-network",
        arguments=_GROWING,
        learning=replace(FORMER, rollout_steps=28, entropy_coefficient=0.03),
        updates=15,
    )
    yield Recipe(
        name="starved",
        label=Label.COLLAPSED,
        why="op is paid for one operation, and the heads that it does not consult starve",
        seeds=5,
        heads=("op",),
        arguments={"consult": "table", "paid_head": "op", "single_action": True},
        learning=replace(SHORT, entropy_coefficient=0.02, entropy_multiplier={"op": 0.0}),
        updates=40,
    )
    yield Recipe(
        name="single-choice",
        label=Label.HARMLESS,
        why="a head of one choice beside two that learn",
        seeds=5,
        environment=CUES_ID,
        arguments={"sizes": (1, 4, 3)},
        learning=SHORT,
        updates=30,
    )
