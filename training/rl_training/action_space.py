"""The eight heads: actions, entropy multipliers, which operation consults which head, and the flat layout."""

from __future__ import annotations

import math
from enum import Enum, IntEnum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rl_exporter.heads import Head, Heads

BoolArray = npt.NDArray[np.bool_]


class Operation(IntEnum):
    """What the policy does with a slot of the host network."""

    WAIT = 0
    GERMINATE = 1
    SET_ALPHA_TARGET = 2
    PRUNE = 3
    FOSSILIZE = 4
    ADVANCE = 5


class Slot(IntEnum):
    """Which place in the host network: after its first, second or third stage."""

    R0C0 = 0
    R0C1 = 1
    R0C2 = 2


class Blueprint(IntEnum):
    """Which module grows."""

    NOOP = 0
    CONV_LIGHT = 1
    ATTENTION = 2
    NORM = 3
    DEPTHWISE = 4
    BOTTLENECK = 5
    CONV_SMALL = 6
    CONV_HEAVY = 7
    LORA = 8
    LORA_LARGE = 9
    MLP_SMALL = 10
    MLP = 11
    FLEX_ATTENTION = 12


class Style(IntEnum):
    """How a grown module joins the host."""

    LINEAR_ADD = 0
    LINEAR_MULTIPLY = 1
    SIGMOID_ADD = 2
    GATED_GATE = 3


class Tempo(IntEnum):
    """How long a module trains and blends: 3, 5 or 8 epochs."""

    FAST = 0
    STANDARD = 1
    SLOW = 2


class AlphaTarget(IntEnum):
    """How much of the module takes part in the end: 0.5, 0.7 or 1.0."""

    HALF = 0
    SEVENTY = 1
    FULL = 2


class AlphaSpeed(IntEnum):
    """How fast alpha moves: 0, 3, 5 or 8 steps."""

    INSTANT = 0
    FAST = 1
    MEDIUM = 2
    SLOW = 3


class AlphaCurve(IntEnum):
    """Along which curve alpha moves; the sigmoids have steepness 6, 12 and 24."""

    LINEAR = 0
    COSINE = 1
    SIGMOID_GENTLE = 2
    SIGMOID = 3
    SIGMOID_SHARP = 4


HEAD_ACTIONS: MappingProxyType[str, type[Enum]] = MappingProxyType(
    {
        "op": Operation,
        "slot": Slot,
        "blueprint": Blueprint,
        "style": Style,
        "tempo": Tempo,
        "alpha_target": AlphaTarget,
        "alpha_speed": AlphaSpeed,
        "alpha_curve": AlphaCurve,
    }
)
"""The actions of each head, in the order of the heads."""

HEAD_NAMES: tuple[str, ...] = tuple(HEAD_ACTIONS)

HEAD_MAX_ENTROPIES = MappingProxyType({name: math.log(len(actions)) for name, actions in HEAD_ACTIONS.items()})
"""Entropy in nats of the uniform distribution over each head's actions."""

ENTROPY_MULTIPLIERS = MappingProxyType(
    {
        "op": 1.0,
        "slot": 1.0,
        "blueprint": 1.3,
        "style": 1.2,
        "tempo": 1.3,
        "alpha_target": 1.2,
        "alpha_speed": 1.2,
        "alpha_curve": 1.2,
    }
)
"""Factor on the base entropy coefficient of each head: heads that are rarely consulted explore more."""

CONSULTED_HEADS = MappingProxyType(
    {
        Operation.WAIT: frozenset({"op"}),
        Operation.GERMINATE: frozenset({"op", "slot", "blueprint", "style", "tempo", "alpha_target"}),
        Operation.SET_ALPHA_TARGET: frozenset(
            {"op", "slot", "style", "alpha_target", "alpha_speed", "alpha_curve"}
        ),
        Operation.PRUNE: frozenset({"op", "slot", "alpha_speed", "alpha_curve"}),
        Operation.FOSSILIZE: frozenset({"op", "slot"}),
        Operation.ADVANCE: frozenset({"op", "slot"}),
    }
)
"""Which heads an operation uses. The others take their canonical action, 0: an action that nothing uses must
neither be sampled, which would add noise to the importance ratio, nor be learned from."""

HEADS = Heads(
    [
        Head(name, len(actions), ENTROPY_MULTIPLIERS[name], actions=tuple(action.name for action in actions))
        for name, actions in HEAD_ACTIONS.items()
    ]
)
"""The heads as the exporter knows them."""

SIZES = tuple(len(actions) for actions in HEAD_ACTIONS.values())
"""Choices of each head."""

OFFSETS = np.concatenate(([0], np.cumsum(SIZES)[:-1])).astype(np.int64)
"""(H,): where the segment of each head begins in a flat row of Σn actions."""

TOTAL = sum(SIZES)
"""Σn, the length of that row."""

OPERATIONS_TABLE = np.array([[name in heads for name in HEAD_NAMES] for heads in CONSULTED_HEADS.values()])
"""(operations, H): which operation consults which head."""

SEGMENT = np.repeat(np.arange(len(SIZES)), SIZES)
"""(Σn,): the head of each action in the flat row."""

CANONICAL = np.zeros(TOTAL, dtype=np.bool_)
"""(Σn,): the mask that allows every head its canonical action, 0, alone."""
CANONICAL[OFFSETS] = True
