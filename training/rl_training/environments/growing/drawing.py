"""A growing network in words: a line for each step, and the architecture as a drawing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

from rl_training.action_space import CONSULTED_HEADS, HEAD_NAMES, Slot, Style
from rl_training.environments.growing.lifecycle import Decision, Slots, SlotState, Stage

_STAGES = ("3 x 3 convolution", "1 x 1 convolution", "1 x 1 convolution")
"""Stages of the host, in order."""

_JOINED = MappingProxyType(
    {
        Style.LINEAR_ADD: "x + {alpha} m",
        Style.LINEAR_MULTIPLY: "x (1 + {alpha} m)",
        Style.SIGMOID_ADD: "x + {alpha} tanh(m / 2)",
        Style.GATED_GATE: "x + {alpha} g m",
    }
)
"""What the host's features x become with the module's output m and its gate g."""

_DECISION_WIDTH = 52
"""Columns of a long decision: SET_ALPHA_TARGET R0C1 LINEAR_ADD HALF INSTANT COSINE."""


class Outcome(NamedTuple):
    """What a step led to. Accuracies and their gain are shares."""

    step: int
    steps: int
    """Longest episode."""
    accuracy: float
    gain: float
    reward: float


def step_line(decision: Decision, outcome: Outcome, slots: Slots) -> str:
    """One step: what was decided, what it brought, and where the slots are."""
    width = len(str(outcome.steps))
    numbers = f"accuracy {outcome.accuracy:6.1%} {100 * outcome.gain:+5.1f}  reward {outcome.reward:+6.3f}"
    named = zip(Slot, slots, strict=True)
    states = ", ".join(f"{name.name} {_state(slot)}" for name, slot in named if slot.stage is not Stage.DORMANT)
    decided = _decided(decision).ljust(_DECISION_WIDTH)
    return f"{outcome.step:{width}}/{outcome.steps}  {numbers}  {decided}  {states}".rstrip()


def _decided(decision: Decision) -> str:
    """The operation, and the actions of the heads that it consults."""
    consulted = CONSULTED_HEADS[decision.operation]
    actions = zip(HEAD_NAMES, decision, strict=True)
    return " ".join(action.name for head, action in actions if head in consulted)


def _state(slot: SlotState) -> str:
    if not slot.occupied:
        return slot.stage.name.lower()
    stage = "pruning" if slot.pruning else slot.stage.name.lower()
    shown = "" if slot.stage in {Stage.GERMINATED, Stage.TRAINING} else f" {slot.alpha:.2f}"
    return f"{slot.blueprint.name} {stage}{shown}"


def architecture(slots: Slots, parameters: Sequence[int], host_parameters: int, accuracy: float) -> str:
    """The host with what has grown on it; ``parameters`` of the module in each slot."""
    lines = ["image"]
    for name, stage, slot, count in zip(Slot, _STAGES, slots, parameters, strict=True):
        lines += [f"  │  {stage}", f"  ├─ {name.name}  {_module(slot, count)}"]
    sizes = f"{sum(parameters):,} parameters grown beside the host's {host_parameters:,}"
    lines.append("  │  mean over positions, linear")
    lines.append(f"digit  validation accuracy {accuracy:.1%}; {sizes}")
    return "\n".join(lines)


def _module(slot: SlotState, parameters: int) -> str:
    if not slot.occupied:
        return "empty" if slot.stage is Stage.DORMANT else f"empty ({slot.stage.name.lower()})"
    joined = _JOINED[slot.style].format(alpha=f"{slot.alpha:.2f}")
    stage = "pruning" if slot.pruning else slot.stage.name.lower()
    return f"{slot.blueprint.name.ljust(15)}  {joined.ljust(22)}  {stage.ljust(10)}  {parameters:,} parameters"
