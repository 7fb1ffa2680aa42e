"""Which minibatch of which epoch an agent evaluates, told from what its memory gave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rl_exporter.integrations.meter.gradients import Parameters
from rl_exporter.integrations.minibatches import EpochBuffer, Minibatch


class SampledMinibatches:
    """Follows an agent through the minibatches that ``memory.sample`` or ``sample_all`` gave.

    An epoch is whole once every one of them was evaluated; KL divergence may end one before.
    """

    def __init__(self, buffer: EpochBuffer) -> None:
        self._buffer = buffer
        self._minibatches: list[dict[str, Tensor]] = []
        self._evaluated = 0

    def sampled(self, names: Sequence[str], minibatches: Sequence[Sequence[Tensor]]) -> None:
        """What the memory gave, by the names of its tensors."""
        if "actions" in names:
            self._restart()
            self._minibatches = [dict(zip(names, one, strict=True)) for one in minibatches]

    def of(self, actions: Tensor) -> dict[str, Tensor]:
        """The minibatch that holds these sampled actions; empty for one that the memory did not give."""
        for index, minibatch in enumerate(self._minibatches):
            if minibatch["actions"] is actions:
                if index < self._evaluated:
                    self._restart()
                return minibatch
        return {}

    def add(self, minibatch: Minibatch, steps: int) -> None:
        """One was evaluated."""
        self._buffer.add(minibatch, steps)
        self._evaluated += 1
        if self._evaluated == len(self._minibatches):
            self._evaluated = 0
            self._buffer.end_epoch()

    def gradients(self, owners: Parameters | Mapping[str, Parameters]) -> None:
        """What the backward pass of the last one left; see ``HeadMeter.gradients``."""
        self._buffer.gradients(owners)

    def end_update(self) -> None:
        """The agent goes on with another rollout."""
        self._minibatches, self._evaluated = [], 0
        self._buffer.end_update()

    def _restart(self) -> None:
        self._evaluated = 0
        self._buffer.cut_short()
