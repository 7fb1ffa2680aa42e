"""The fragments of a rollout: its episodes, or the parts of them that lie in it, packed for an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rl_exporter.integrations.meter.uploads import upload_together
from rl_training.action_space import BoolArray


@dataclass(frozen=True, slots=True)
class Fragments:
    """F fragments of a rollout of T steps in B environments.

    Packed, the longest fragment comes first: the first step of all fragments, then the second of those that
    have one, and so on. An LSTM takes one step of all fragments at a time, and no padding. The flat order of a
    rollout (T, B) is that of its rows: time first.
    """

    alive: tuple[int, ...]
    """Fragments that have a first step, a second, …; it never grows."""
    order: Tensor
    """(T · B,) place of each packed step in the flat order."""
    back: Tensor
    """(T · B,) place of each step of the flat order among the packed ones."""
    previous: Tensor
    """(T · B,) of each packed step, the place of the one before it, where the F initial states come first."""
    owner: Tensor
    """(F,) environment of each fragment."""
    carried: Tensor
    """(F,) bool, the fragment continues an episode of the previous rollout, from its state."""

    @classmethod
    def of(cls, starts: BoolArray, device: torch.device) -> Fragments:
        """Of a rollout in which an episode begins where ``starts`` (T, B) is True."""
        return cls.of_each([starts], device)[0]

    @classmethod
    def of_each(cls, starts: Sequence[BoolArray], device: torch.device) -> tuple[Fragments, ...]:
        """Of several rollouts, such as the minibatches of an epoch, in one upload."""
        plans = [_plan(each) for each in starts]
        parts = iter(upload_together([part for plan in plans for part in plan.indices], device))
        each = ([next(parts) for _ in plan.indices] for plan in plans)
        return tuple(
            cls(plan.alive, order, back, previous, owner, carried.bool())
            for plan, (order, back, previous, owner, carried) in zip(plans, each, strict=True)
        )

    def packed(self, steps: Tensor) -> Tensor:
        """(T, B, …) to (T · B, …)."""
        return steps.flatten(0, 1).index_select(0, self.order)

    def initial(self, state: Tensor) -> Tensor:
        """State (B, …) before the rollout to that before each fragment, (F, …)."""
        # Chosen, not multiplied: a state that a broken observation made NaN would stay NaN.
        return torch.where(self.carried.unsqueeze(1), state.index_select(0, self.owner), 0.0)


class _Plan(NamedTuple):
    """Fragments on the host: those alive at each step, and the other fields of ``Fragments`` in their order."""

    alive: tuple[int, ...]
    indices: tuple[npt.NDArray[np.int64], ...]


def _plan(starts: BoolArray) -> _Plan:
    steps, environments = starts.shape
    begins = starts.T.copy()
    begins[:, 0] = True
    # Environments come first here, so that the steps of a fragment are neighbours.
    first = np.flatnonzero(begins)
    length = np.diff(first, append=begins.size)
    longest_first = np.argsort(-length, kind="stable")
    first, length = first[longest_first], length[longest_first]
    position = np.arange(length[0])[:, None]
    taken = position < length
    environment, time = np.divmod((first + position)[taken], steps)
    order = time * environments + environment
    alive = taken.sum(1)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    # The initial states lie before the steps; each step has the place of its fragment among those alive.
    before = np.concatenate(([0], len(first) + np.cumsum(alive) - alive))[:-1, None]
    previous = (before + np.arange(len(first)))[taken]
    owner, offset = np.divmod(first, steps)
    carried = ((offset == 0) & ~starts[0, owner]).astype(np.int64)
    return _Plan(tuple(alive.tolist()), (order, back, previous, owner, carried))
