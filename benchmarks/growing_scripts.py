"""Scripts for the growing network: what to grow where and when, decided beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from rl_training.action_space import AlphaTarget, Blueprint, Operation, Slot, Style, Tempo
from rl_training.environments.growing.lifecycle import Decision, Slots, Stage, is_legal

WAIT = Decision(Operation.WAIT)


@dataclass(frozen=True, slots=True)
class Planting:
    """One module: where it grows, what, and from which step of the episode on."""

    slot: Slot
    blueprint: Blueprint
    style: Style = Style.LINEAR_ADD
    tempo: Tempo = Tempo.FAST
    target: AlphaTarget = AlphaTarget.FULL
    at: int = 0

    @property
    def decision(self) -> Decision:
        """The decision that plants it."""
        return Decision(Operation.GERMINATE, self.slot, self.blueprint, self.style, self.tempo, self.target)


@dataclass(frozen=True, slots=True)
class Script:
    """Plantings in their order, and when modules move on from stage to stage."""

    plantings: tuple[Planting, ...]
    hurry: bool = False
    """Whether a germinated module starts to train without the step that it would wait."""
    training: int | None = None
    """Steps of training before the module joins the host; None: as its tempo says."""
    blend: bool = True
    """Whether alpha rises along its ramp, or at once."""
    fossilize_from: int | None = None
    """Step from which modules that are held become permanent, one a step; None: never."""


def decide(script: Script, slots: Slots, step: int) -> Decision:
    """What the script does at a step of an episode, given the slots."""
    if script.fossilize_from is not None and step >= script.fossilize_from:
        for slot in Slot:
            if is_legal(slots, Operation.FOSSILIZE, slot):
                return Decision(Operation.FOSSILIZE, slot)
    for planting in script.plantings:
        if _moves_on(script, slots, planting.slot):
            return Decision(Operation.ADVANCE, planting.slot)
        if step >= planting.at and is_legal(slots, Operation.GERMINATE, planting.slot):
            return planting.decision
    return WAIT


def _moves_on(script: Script, slots: Slots, index: Slot) -> bool:
    slot = slots[index]
    if slot.stage is Stage.GERMINATED:
        return script.hurry
    if slot.stage is Stage.TRAINING:
        return script.training is not None and slot.stage_age >= script.training - 1
    return slot.stage is Stage.BLENDING and not script.blend


def described(script: Script) -> str:
    """The script as a list in Markdown."""
    lines = [
        f"- slot {one.slot.name}, from step {one.at} on: {one.blueprint.name}, joined by {one.style.name}, "
        f"tempo {one.tempo.name}, alpha target {one.target.name}"
        for one in script.plantings
    ]
    count = script.training
    trained = "as long as its tempo says" if count is None else f"{count} step{'s' * (count != 1)}"
    lines += [
        f"- a germinated module trains {'at once' if script.hurry else 'one step later'}, {trained}; "
        f"then alpha rises {'along its ramp' if script.blend else 'at once'}",
        "- modules stay as they are"
        if script.fossilize_from is None
        else f"- modules that are held become permanent from step {script.fossilize_from} on",
    ]
    return "\n".join(lines) + "\n"


BEST_SCRIPT = Script(
    plantings=tuple(
        Planting(slot, Blueprint.LORA_LARGE, Style.LINEAR_MULTIPLY, Tempo.STANDARD, AlphaTarget.SEVENTY, at)
        for slot, at in ((Slot.R0C2, 0), (Slot.R0C1, 4), (Slot.R0C0, 0))
    ),
    training=1,
    blend=False,
)
"""The best script of the search in growing_search.py, with its defaults."""
