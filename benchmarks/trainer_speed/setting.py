"""What is measured: the same setting for the trainer and its peers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Setting:
    """Sizes of one comparison; ``units`` wide."""

    units: int
    environments: int = 32
    rollout_steps: int = 12
    epochs: int = 8
    minibatches: int = 4

    @property
    def steps(self) -> int:
        """Environment steps of one update."""
        return self.environments * self.rollout_steps


class Cost(NamedTuple):
    """CPU seconds of some updates."""

    rollout: float
    update: float

    @property
    def whole(self) -> float:
        """Both together."""
        return self.rollout + self.update
