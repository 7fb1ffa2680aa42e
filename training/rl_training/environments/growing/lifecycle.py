"""The life of a slot as a pure state machine: what an operation changes, and what time changes.

In each step, ``decide`` applies the operation and ``pass_step`` then lets time pass in every slot. Both return
new states. ``decide`` raises IllegalDecisionError for what ``is_legal`` forbids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

from rl_training.action_space import (
    AlphaCurve,
    AlphaSpeed,
    AlphaTarget,
    Blueprint,
    Operation,
    Slot,
    Style,
    Tempo,
)
from rl_training.environments.growing.curves import ALPHA_TARGETS, NO_RAMP, SPEED_STEPS, TEMPO_STEPS, Ramp

PRUNE_AGE = 5
"""Age in steps from which a module may be pruned."""


class Stage(IntEnum):
    """Where a slot is in its life."""

    DORMANT = 0
    GERMINATED = 1
    TRAINING = 2
    BLENDING = 3
    HOLDING = 4
    FOSSILIZED = 5
    PRUNED = 6
    EMBARGOED = 7
    RESETTING = 8


GROWING = frozenset({Stage.GERMINATED, Stage.TRAINING, Stage.BLENDING})
"""Stages of a module that is not yet fully part of the host."""

OCCUPIED = GROWING | {Stage.HOLDING, Stage.FOSSILIZED}
"""Stages in which the slot holds a module."""

_AFTER = {
    Stage.GERMINATED: Stage.TRAINING,
    Stage.PRUNED: Stage.EMBARGOED,
    Stage.EMBARGOED: Stage.RESETTING,
    Stage.RESETTING: Stage.DORMANT,
}
"""Stages that last one step, and the stage after each."""

_STAGES_OF = {
    Operation.WAIT: frozenset(Stage),
    Operation.GERMINATE: frozenset({Stage.DORMANT}),
    Operation.SET_ALPHA_TARGET: frozenset({Stage.BLENDING, Stage.HOLDING}),
    Operation.PRUNE: GROWING | {Stage.HOLDING},
    Operation.FOSSILIZE: frozenset({Stage.HOLDING}),
    Operation.ADVANCE: GROWING,
}
"""Stages of a slot to which an operation may be applied; ``is_legal`` adds further conditions."""

_ONLY_AT_REST = frozenset({Operation.SET_ALPHA_TARGET, Operation.PRUNE, Operation.FOSSILIZE})


class IllegalDecisionError(ValueError):
    """An operation that the state of its slot does not allow; the message names both."""


class Decision(NamedTuple):
    """What the policy decided: one action of each head, in the order of the heads."""

    operation: Operation
    slot: Slot = Slot.R0C0
    blueprint: Blueprint = Blueprint.NOOP
    style: Style = Style.LINEAR_ADD
    tempo: Tempo = Tempo.FAST
    alpha_target: AlphaTarget = AlphaTarget.HALF
    alpha_speed: AlphaSpeed = AlphaSpeed.INSTANT
    alpha_curve: AlphaCurve = AlphaCurve.LINEAR

    @classmethod
    def of(cls, action: Iterable[int]) -> Decision:
        """From one row of action numbers. Raises ValueError for a number that is no action."""
        op, slot, blueprint, style, tempo, target, speed, curve = (int(number) for number in action)
        return cls(
            Operation(op),
            Slot(slot),
            Blueprint(blueprint),
            Style(style),
            Tempo(tempo),
            AlphaTarget(target),
            AlphaSpeed(speed),
            AlphaCurve(curve),
        )


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot. ``age`` counts steps since germination, ``stage_age`` steps in the present stage.

    ``pruning``: alpha moves to 0, and the slot loses its module when alpha arrives.
    """

    stage: Stage = Stage.DORMANT
    age: int = 0
    stage_age: int = 0
    blueprint: Blueprint = Blueprint.NOOP
    style: Style = Style.LINEAR_ADD
    tempo: Tempo = Tempo.FAST
    ramp: Ramp = NO_RAMP
    pruning: bool = False

    @property
    def alpha(self) -> float:
        """Weight of the module in the host's features, in [0, 1]."""
        return self.ramp.alpha

    @property
    def at_rest(self) -> bool:
        """Whether alpha stands still, as it does until the first step of a ramp."""
        return not self.ramp.under_way

    @property
    def occupied(self) -> bool:
        """Whether the slot holds a module."""
        return self.stage in OCCUPIED


DORMANT = SlotState()
Slots = tuple[SlotState, ...]


def dormant_slots() -> Slots:
    """The slots at the start of an episode."""
    return (DORMANT,) * len(Slot)


def is_legal(slots: Slots, operation: Operation, index: int) -> bool:
    """Whether ``operation`` may be applied to slot ``index``; WAIT always may."""
    slot = slots[index]
    if operation is Operation.GERMINATE and any(other.stage in GROWING for other in slots):
        return False
    if operation in _ONLY_AT_REST and (slot.pruning or not slot.at_rest):
        return False
    if operation is Operation.PRUNE and slot.age < PRUNE_AGE:
        return False
    return slot.stage in _STAGES_OF[operation]


def decide(slots: Slots, decision: Decision) -> Slots:
    """The slots after ``decision``. Raises IllegalDecisionError, also for GERMINATE with the blueprint NOOP."""
    operation, index = decision.operation, decision.slot
    if operation is Operation.WAIT:
        return slots
    slot = slots[index]
    if operation is Operation.GERMINATE and decision.blueprint is Blueprint.NOOP:
        raise IllegalDecisionError("GERMINATE with blueprint NOOP grows nothing; choose another blueprint")
    if not is_legal(slots, operation, index):
        raise IllegalDecisionError(
            f"{operation.name} is not possible on slot {decision.slot.name} in stage {slot.stage.name} "
            f"(age {slot.age}, alpha {slot.alpha:g}); choose by the action masks"
        )
    changed = _OPERATIONS[operation](slot, decision)
    return (*slots[:index], changed, *slots[index + 1 :])


def _germinate(_slot: SlotState, decision: Decision) -> SlotState:
    # -1, because time passes at the end of this step: GERMINATED then lasts a whole step of its own.
    ramp = Ramp(0.0, ALPHA_TARGETS[decision.alpha_target], TEMPO_STEPS[decision.tempo])
    return SlotState(Stage.GERMINATED, -1, -1, decision.blueprint, decision.style, decision.tempo, ramp)


def _set_alpha_target(slot: SlotState, decision: Decision) -> SlotState:
    ramp = _ramp(slot, ALPHA_TARGETS[decision.alpha_target], decision)
    return replace(slot, stage=Stage.BLENDING, stage_age=0, style=decision.style, ramp=ramp)


def _prune(slot: SlotState, decision: Decision) -> SlotState:
    ramp = _ramp(slot, 0.0, decision)
    if ramp.done:
        # As in _germinate: PRUNED lasts a whole step.
        return SlotState(Stage.PRUNED, stage_age=-1)
    return replace(slot, ramp=ramp, pruning=True)


def _fossilize(slot: SlotState, _decision: Decision) -> SlotState:
    return replace(slot, stage=Stage.FOSSILIZED, stage_age=0)


def _advance(slot: SlotState, _decision: Decision) -> SlotState:
    following = Stage(slot.stage + 1)
    if following is Stage.HOLDING:
        return replace(slot, stage=following, stage_age=0, ramp=replace(slot.ramp, elapsed=slot.ramp.steps))
    return replace(slot, stage=following, stage_age=0)


_OPERATIONS = {
    Operation.GERMINATE: _germinate,
    Operation.SET_ALPHA_TARGET: _set_alpha_target,
    Operation.PRUNE: _prune,
    Operation.FOSSILIZE: _fossilize,
    Operation.ADVANCE: _advance,
}


def _ramp(slot: SlotState, target: float, decision: Decision) -> Ramp:
    return Ramp(slot.alpha, target, SPEED_STEPS[decision.alpha_speed], decision.alpha_curve)


def pass_step(slot: SlotState) -> SlotState:
    """The slot one step later: it ages, alpha moves, and a stage whose time is over ends."""
    older = replace(slot, age=slot.age + slot.occupied, stage_age=slot.stage_age + 1)
    if slot.stage in _AFTER:
        return _one_step_stage(older)
    if slot.stage is Stage.TRAINING and older.stage_age >= TEMPO_STEPS[slot.tempo]:
        return replace(older, stage=Stage.BLENDING, stage_age=0)
    if slot.stage is Stage.BLENDING:
        moved = replace(older, ramp=slot.ramp.after_a_step())
        return replace(moved, stage=Stage.HOLDING, stage_age=0) if moved.ramp.done else moved
    if slot.pruning:
        moved = replace(older, ramp=slot.ramp.after_a_step())
        return SlotState(Stage.PRUNED) if moved.ramp.done else moved
    return older


def _one_step_stage(slot: SlotState) -> SlotState:
    if slot.stage_age < 1:
        return slot
    following = _AFTER[slot.stage]
    if following is Stage.DORMANT:
        return DORMANT
    return replace(slot, stage=following, stage_age=0)
