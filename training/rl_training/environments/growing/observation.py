"""What the policy observes: the host, then each slot; every number is in [-1, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rl_training.action_space import Blueprint, Slot, Style
from rl_training.environments.growing.curves import TEMPO_STEPS
from rl_training.environments.growing.lifecycle import Slots, SlotState, Stage

Observation = npt.NDArray[np.float32]

_LOSS = 3.0
_HOST = 7
_SLOT = len(Stage) + len(Blueprint) + len(Style) + 8
OBSERVATION_SIZE = _HOST + len(Slot) * _SLOT

_STAGES, _BLUEPRINTS, _STYLES = (np.eye(len(kind), dtype=np.float32) for kind in (Stage, Blueprint, Style))
_LONGEST = max(TEMPO_STEPS.values())


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host after a step. ``time`` is the share of the episode that has passed; losses in nats."""

    time: float
    accuracy: float
    gain: float
    best_accuracy: float
    validation_loss: float
    training_loss: float


@dataclass(frozen=True, slots=True)
class ModuleReading:
    """A grown module: its parameters relative to the host's, and its last gradient norm."""

    size: float
    gradient_norm: float


def observe(host: HostReading, slots: Slots, modules: tuple[ModuleReading, ...], steps: int) -> Observation:
    """One observation, (OBSERVATION_SIZE,); ``steps`` is the length of an episode."""
    size = sum(module.size for module in modules)
    numbers = [
        host.time,
        host.accuracy,
        host.gain,
        host.best_accuracy,
        _at_most_1(host.validation_loss / _LOSS),
        _at_most_1(host.training_loss / _LOSS),
        math.tanh(size / 10),
    ]
    parts = [np.array(numbers, dtype=np.float32)]
    for slot, module in zip(slots, modules, strict=True):
        parts += [_one_hots(slot), _numbers(slot, module, steps)]
    return np.concatenate(parts)


def _one_hots(slot: SlotState) -> Observation:
    if not slot.occupied:
        empty: Observation = np.zeros(len(Blueprint) + len(Style), dtype=np.float32)
        return np.concatenate([_STAGES[slot.stage], empty])
    return np.concatenate([_STAGES[slot.stage], _BLUEPRINTS[slot.blueprint], _STYLES[slot.style]])


def _numbers(slot: SlotState, module: ModuleReading, steps: int) -> Observation:
    duration = TEMPO_STEPS[slot.tempo]
    return np.array(
        [
            slot.alpha,
            slot.ramp.target,
            slot.at_rest,
            slot.pruning,
            min(slot.age / steps, 1.0),
            duration / _LONGEST if slot.occupied else 0.0,
            math.tanh(module.size / 5),
            _at_most_1(module.gradient_norm / 3),
        ],
        dtype=np.float32,
    )


def _at_most_1(value: float) -> float:
    """The value, at most 1. min() returns its first argument for a NaN, so a diverged network reads 1."""
    return min(1.0, value)
