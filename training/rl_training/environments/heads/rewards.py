"""The reward tables of the ``heads`` environment, and the returns that follow from them exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import comb

import numpy as np
import numpy.typing as npt

from rl_training.action_space import HEAD_NAMES, OFFSETS, OPERATIONS_TABLE, SIZES, TOTAL
from rl_training.config import option

VALID_SHARE = 0.7
"""Probability that an action is valid; one good action of each head always is."""

_TABLE_SEED = 20240229


@dataclass(frozen=True, slots=True)
class HeadsOptions:
    """Options of the ``heads`` environment; the metadata of each field explains it."""

    consult: str = field(
        default="all", metadata=option("heads that count: all at every step, or by the table of the operations")
    )
    contexts: int = field(default=4, metadata=option("kinds of observation"))
    noise: int = field(default=0, metadata=option("extra random inputs"))
    delay: int = field(default=0, metadata=option("1 shows a step's context one step early"))
    paid_head: str = field(default="", metadata=option("the only head that is rewarded; empty: all"))
    single_action: bool = field(
        default=False, metadata=option("the paid head is paid for one action whatever the context")
    )
    safe_pay: float = field(
        default=0.0,
        metadata=option(
            "what one action of the paid head pays in every context, and then another pays 1 in each: a trap"
        ),
    )
    episode_steps: int = field(default=16, metadata=option("length of an episode, which ends in a truncation"))

    def __post_init__(self) -> None:
        checks = (
            (self.consult in {"all", "table"}, "consult", self.consult, "all or table"),
            (self.contexts >= 1, "contexts", self.contexts, "a whole number >= 1"),
            (self.noise >= 0, "noise", self.noise, "a whole number >= 0"),
            (self.delay in {0, 1}, "delay", self.delay, "0 or 1"),
            (
                self.paid_head in {"", *HEAD_NAMES},
                "paid_head",
                self.paid_head,
                "one of " + ", ".join(HEAD_NAMES),
            ),
            (
                not self.single_action or self.paid_head,
                "single_action",
                self.single_action,
                "a paid_head beside it",
            ),
            (0 <= self.safe_pay < 1, "safe_pay", self.safe_pay, "a number from 0 to below 1"),
            (
                not self.safe_pay or (self.paid_head and self.consult == "all"),
                "safe_pay",
                self.safe_pay,
                "a paid_head beside it, and consult=all",
            ),
            (self.episode_steps >= 1, "episode_steps", self.episode_steps, "a whole number >= 1"),
        )
        for fine, name, value, remedy in checks:
            if not fine:
                raise ValueError(f"heads environment: {name}={value!r} is not possible; give {remedy}")


def good_actions(options: HeadsOptions) -> npt.NDArray[np.bool_]:
    """(contexts, Σn): which actions hit in which context: about half of each head's actions, at least one."""
    generator = np.random.default_rng(_TABLE_SEED)
    good = np.zeros((options.contexts, TOTAL), dtype=np.bool_)
    for name, size, offset in zip(HEAD_NAMES, SIZES, OFFSETS, strict=True):
        for context in range(options.contexts):
            picks = generator.permutation(size)[: max(1, size // 2)]
            good[context, offset + picks] = True
        if name == options.paid_head and (options.single_action or options.safe_pay):
            contexts = np.arange(options.contexts)
            right = 1 if options.single_action else 1 + contexts % (size - 1)
            good[:, offset : offset + size] = False
            good[contexts, offset + right] = True
    return good


def safe_column(options: HeadsOptions) -> int | None:
    """Column of the action that always pays ``safe_pay``: the first one of the paid head."""
    return int(OFFSETS[HEAD_NAMES.index(options.paid_head)]) if options.safe_pay else None


def consulted_table(options: HeadsOptions) -> npt.NDArray[np.bool_]:
    """(operations, H): which operation consults which head; one row of all heads for ``consult=all``."""
    if options.consult == "all":
        return np.ones((1, len(SIZES)), dtype=np.bool_)
    return OPERATIONS_TABLE


def reward_weights(options: HeadsOptions) -> npt.NDArray[np.float64]:
    """(operations, H): reward of a hit of each head. A row sums to 1, or to 0 where no head is paid."""
    paid = consulted_table(options).astype(np.float64)
    if options.paid_head:
        paid[:, [name != options.paid_head for name in HEAD_NAMES]] = 0.0
    sums = paid.sum(axis=1, keepdims=True)
    weights: npt.NDArray[np.float64] = np.divide(paid, sums, out=np.zeros_like(paid), where=sums > 0)
    return weights


def uniform_step_reward(options: HeadsOptions) -> float:
    """Expected reward of a step under uniformly random valid actions, exactly.

    Of G good and B bad actions of a head, 1 + Bin(G - 1, p) good and Bin(B, p) bad ones are valid.
    """
    good = good_actions(options)
    # Of a head that the operation consults, the chance of a hit does not depend on the other heads.
    hits = np.array([[_uniform_hit(int(n), size) for n, size in zip(row, SIZES, strict=True)] for row in
                     np.add.reduceat(good, OFFSETS, axis=1, dtype=np.int64)])  # fmt: skip
    if options.safe_pay:
        head = HEAD_NAMES.index(options.paid_head)
        hits[:, head] = _uniform_pay_beside_a_safe_action(SIZES[head], options.safe_pay)
    weights = reward_weights(options)
    if options.consult == "all":
        return float((hits @ weights[0]).mean())
    total = 0.0
    for context, row in enumerate(good):
        operations = row[: SIZES[0]]
        hit = hits[context, 0]
        chance = np.where(operations, hit / operations.sum(), (1 - hit) / max(1, (~operations).sum()))
        expected = np.tile(hits[context], (SIZES[0], 1))
        expected[:, 0] = operations
        total += float(chance @ (weights * expected).sum(axis=1))
    return total / len(good)


def _uniform_pay_beside_a_safe_action(size: int, safe_pay: float) -> float:
    """Expected pay of a uniformly random valid action: the good one and the safe one are always valid."""
    others = size - 2
    return sum(_chance(valid, others) * (1 + safe_pay) / (2 + valid) for valid in range(others + 1))


def _uniform_hit(good: int, size: int) -> float:
    """Probability that a uniformly random valid action of a head with ``good`` of ``size`` actions hits."""
    bad = size - good
    return sum(
        _chance(g - 1, good - 1) * _chance(b, bad) * g / (g + b)
        for g in range(1, good + 1)
        for b in range(bad + 1)
    )


def _chance(valid: int, actions: int) -> float:
    """Probability that ``valid`` of ``actions`` are valid."""
    return comb(actions, valid) * VALID_SHARE**valid * (1 - VALID_SHARE) ** (actions - valid)
