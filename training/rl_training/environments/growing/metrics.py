"""What an episode of the growing network reports: see ``info["metrics"]`` in docs/metrics.md. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rl_training.action_space import Operation, Slot
from rl_training.environments.growing.lifecycle import Slots

EMPTY = "NONE"
"""The blueprint of a slot without a module, so that each slot reports one and its shares sum to 1."""


def episode_metrics(
    slots: Slots, accuracy: float, parameters: int, operations: Mapping[Operation, int]
) -> dict[str, float]:
    """Numbers of an episode at its end, by their keys.

    ``accuracy`` of the host on the validation images, ``parameters`` of everything grown, and how often each
    operation was carried out.
    """
    modules = {
        _module(name, slots[name].blueprint.name if slots[name].occupied else EMPTY): 1.0 for name in Slot
    }
    counts = {f'operations{{operation="{one.name}"}}': float(operations.get(one, 0)) for one in Operation}
    return {
        "validation_accuracy_ratio": accuracy,
        "grown_parameters": float(parameters),
        **modules,
        **counts,
    }


def _module(slot: Slot, blueprint: str) -> str:
    return f'modules_ratio{{blueprint="{blueprint}",slot="{slot.name}"}}'
