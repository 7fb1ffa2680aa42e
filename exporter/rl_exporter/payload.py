"""The seam between a policy and the exporter: one payload per update, and one method that takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, SupportsFloat

from rl_exporter.heads import entropy_attribute_head
from rl_exporter.immutable import Picklable
from rl_exporter.numbers import DurationNumbers, HeadNumbers, PolicyNumbers, TrainingNumbers


@dataclass(frozen=True, slots=True)
class HeadMeasurement(HeadNumbers):
    """What one update measured of one head; None means not measured.

    entropy               mean entropy in nats under the step mask, over every step, then over the epochs
    choice_entropy        mean of H / ln(valid choices) under the decision mask, over the choice steps
    choice_share          share of the steps at which the head decided something
    open_share            share of the steps at which some valid operation would have let it decide
    gradient_norm         of the head's own parameters before clipping, mean of the finite ones
    importance_ratio_max  largest probability ratio between updated and acting policy at a choice step
    state_information     nats by which the state explains the decisions better than the best fixed preference
    state_information_ratio  its share of all that is uncertain about the action without the state
    advantage_margin, advantage_margin_t  of the leading action over the others, and Welch's t of it
    nan_steps, inf_steps  steps whose logits at valid actions held NaN, else infinity
    nan_gradients, inf_gradients  optimiser steps whose gradient norm was NaN or infinite
    """

    nan_steps: int = 0
    inf_steps: int = 0
    nan_gradients: int = 0
    inf_gradients: int = 0
    action_shares: tuple[float, ...] | None = None
    """Mean probability of each action over the choice steps."""


NOT_MEASURED = HeadMeasurement()

NONFINITE_COUNTS = ("nan_steps", "inf_steps", "nan_gradients", "inf_gradients")
"""Fields of a measurement that count rather than measure."""


@dataclass(frozen=True, kw_only=True)
class PPOUpdatePayload(Picklable, PolicyNumbers, TrainingNumbers, DurationNumbers):
    """What one PPO update measured. Every field is optional: None means not measured.

    ``heads`` maps head names to measurements; a head that is absent was not measured.
    ``environment_steps`` and ``episodes`` count what this update's rollout added.
    ``environment_metrics`` maps what environments report to its mean over the last episodes, such as
    ``{"accuracy_ratio": 0.9, 'modules_ratio{slot="a"}': 0.5}``; it replaces that of the update before.
    Durations are in seconds, divergence in nats, shares in [0, 1]; ``update_duration`` is optimisation only.
    ``payload.head_<name>_entropy`` is the entropy in nats of a head in ``heads``.
    """

    heads: Mapping[str, HeadMeasurement] = field(default_factory=dict)
    environment_metrics: Mapping[str, SupportsFloat] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", MappingProxyType(dict(self.heads)))
        if isinstance(self.environment_metrics, dict):
            object.__setattr__(self, "environment_metrics", MappingProxyType(dict(self.environment_metrics)))

    def __getattr__(self, attribute: str) -> float | None:
        name = entropy_attribute_head(attribute)
        if name is None or name not in self.heads:
            raise AttributeError(f"{type(self).__name__} has no attribute {attribute!r}")
        return self.heads[name].entropy


class PPOUpdateHandler(Protocol):
    """Takes updates: the whole seam is this one method."""

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Take one update's payload. The training thread calls it once per update."""
