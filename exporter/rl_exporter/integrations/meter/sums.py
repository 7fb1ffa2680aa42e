"""The sums of one update: name, shape and way of combining over ranks, declared once for each.

Every rank packs its sums into one flat row. The ranks exchange these rows, a single transfer moves all of them
to the host, and ``combine`` adds them up. A new sum is declared here, computed in ``measurement`` and divided
in ``result``; nothing depends on its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, Self, TypeVar, get_type_hints

import numpy as np
import numpy.typing as npt

from rl_exporter.decisions import DECAY

if TYPE_CHECKING:
    from torch import Tensor


class Extent(NamedTuple):
    """Length of each axis that a sum may have."""

    epochs: int
    """Whole epochs of the update."""
    heads: int
    actions: int
    """Σn, the actions of all heads in one flat row."""


FloatArray = npt.NDArray[np.float64]
Array = TypeVar("Array", "Tensor", FloatArray)
Combine = Callable[[FloatArray], FloatArray]


class Declaration(NamedTuple):
    """Axes of a sum, by their names in ``Extent``, and how the rows of all ranks, (ranks, L), become one."""

    axes: tuple[str, ...]
    combine: Combine

    def shape(self, extent: Extent) -> tuple[int, ...]:
        """The shape of the sum in an update of that extent."""
        return tuple(getattr(extent, axis) for axis in self.axes)


def _sum(rows: FloatArray) -> FloatArray:
    total: FloatArray = rows.sum(0)
    return total


def _largest(rows: FloatArray) -> FloatArray:
    largest: FloatArray = rows.max(0)
    return largest


def _first(rows: FloatArray) -> FloatArray:
    first: FloatArray = rows[0]
    return first


def summed(*axes: str) -> Declaration:
    """A sum over one rank's environments: the ranks add up."""
    return Declaration(axes, _sum)


def largest(*axes: str) -> Declaration:
    """A maximum over one rank's environments: the largest of the ranks counts."""
    return Declaration(axes, _largest)


def shared(*axes: str) -> Declaration:
    """A number that PPO has already summed over the ranks: each rank holds the same one."""
    return Declaration(axes, _first)


class UpdateSums(NamedTuple, Generic[Array]):
    """What one update measured, on the device or as NumPy arrays on the host; entropies in nats.

    Sums with an epochs axis are over every step or optimiser step of a whole epoch. Counts named ``nan_…`` and
    ``inf_…`` include an aborted epoch. What is not finite is in no other sum, and not in its count.
    """

    failed: Annotated[Array, summed()]
    """1 from a rank that could not measure; its other numbers mean nothing."""
    entropy: Annotated[Array, summed("epochs", "heads")]
    """Entropy under the step mask."""
    entropy_steps: Annotated[Array, summed("epochs", "heads")]
    choice_entropy: Annotated[Array, summed("epochs", "heads")]
    """H / ln v under the decision mask, over the choice steps."""
    choice_entropy_steps: Annotated[Array, summed("epochs", "heads")]
    clipped_steps: Annotated[Array, summed("epochs")]
    """Steps at which the importance ratio of a choosing head left the clip range."""
    importance_ratio_max: Annotated[Array, largest("heads")]
    """Largest importance ratio of the choice steps; 0 without any."""
    nan_steps: Annotated[Array, summed("heads")]
    """Steps with NaN among the logits of valid actions."""
    inf_steps: Annotated[Array, summed("heads")]
    """Steps with an infinite logit, and no NaN, among them."""
    action_probability: Annotated[Array, summed("actions")]
    """Probability of each action, over the choice steps of the last whole epoch; so are the next two."""
    decision_entropy: Annotated[Array, summed("heads")]
    """Entropy in nats under the decision mask."""
    log_normalizer: Annotated[Array, summed("heads")]
    """ln of the preference weights of all valid actions together."""
    preference_weights: Annotated[Array, shared("actions")]
    """No sum: the best preference, which the ranks have fitted together."""
    sampled_steps: Annotated[Array, summed("actions")]
    """Choice steps of the rollout at which each action was sampled."""
    sampled_advantage: Annotated[Array, summed("actions")]
    """Normalized advantage at these steps, and its square."""
    sampled_advantage_square: Annotated[Array, summed("actions")]
    kl_divergence: Annotated[Array, summed()]
    """Of the policy after the update from the one that acted, over every step, as PPO estimates it."""
    gradient_norm: Annotated[Array, shared("epochs")]
    """Norm of the whole gradient before clipping, over the optimiser steps."""
    policy_loss: Annotated[Array, shared("epochs")]
    value_loss: Annotated[Array, shared("epochs")]
    optimizer_steps: Annotated[Array, shared("epochs")]
    head_gradient_norm: Annotated[Array, shared("heads")]
    """Norm of the gradient of the head's own parameters before clipping, over the optimiser steps."""
    head_gradient_steps: Annotated[Array, shared("heads")]
    nan_gradients: Annotated[Array, shared("heads")]
    """Optimiser steps at which that norm was NaN."""
    inf_gradients: Annotated[Array, shared("heads")]
    explained_variance: Annotated[Array, shared()]
    """No sum, but it travels with them."""


DECLARATIONS = MappingProxyType(
    {name: hint.__metadata__[0] for name, hint in get_type_hints(UpdateSums, include_extras=True).items()}
)
"""The declaration of each sum by name, in the order of ``UpdateSums``."""


def combine(rows: FloatArray, extent: Extent) -> UpdateSums[FloatArray]:
    """The sums of all ranks from their packed rows (ranks, L)."""
    # Whole rows at once: to combine each sum apart would take ten times as long.
    combined = {kind: kind(rows) for kind in (_sum, _largest, _first)}
    parts, start = [], 0
    for declared in DECLARATIONS.values():
        shape = declared.shape(extent)
        stop = start + math.prod(shape)
        parts.append(combined[declared.combine][start:stop].reshape(shape))
        start = stop
    return UpdateSums(*parts)


Numbers = TypeVar("Numbers")


class ActionSums(NamedTuple, Generic[Numbers]):
    """Choice steps at which each action was sampled, and sums of their normalized advantages; (Σn,) each."""

    steps: Numbers
    total: Numbers
    squares: Numbers

    def after(self, update: Self) -> Self:
        """These sums, decayed, with those of one update more."""
        parts: Iterable[tuple[Any, Any]] = zip(self, update, strict=True)
        return type(self)(*(DECAY * old + new for old, new in parts))


class Preferences(NamedTuple, Generic[Numbers]):
    """The best preference of each head, and what it and the head make of one rank's choice steps."""

    probability: Numbers
    """(Σn,) sum over the choice steps of the probability of each action."""
    entropy: Numbers
    """(H,) sum of the entropies, in nats."""
    log_normalizer: Numbers
    """(H,) sum of ln Σ_b m(b) w_b."""
    weights: Numbers
    """(Σn,) the same on every rank."""


def decision_sums(preferences: Preferences[Numbers], advantages: ActionSums[Numbers]) -> dict[str, Numbers]:
    """Those of ``UpdateSums`` that say what the heads did at their choice steps, and what it paid."""
    return {
        "action_probability": preferences.probability,
        "decision_entropy": preferences.entropy,
        "log_normalizer": preferences.log_normalizer,
        "preference_weights": preferences.weights,
        "sampled_steps": advantages.steps,
        "sampled_advantage": advantages.total,
        "sampled_advantage_square": advantages.squares,
    }
