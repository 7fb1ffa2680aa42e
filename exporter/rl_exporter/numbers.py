"""Every number that a run exports, once: a field whose annotation is its row.

Payload and state inherit the fields. Validity checks, /metrics, reading /metrics back, the JSON document, the
table in docs/metrics.md and the signature of ``HeadRecorder.record`` follow from the rows. So a new number is one
row here, its computation, its panel and its test.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_type_hints

COUNT_MOST = 2.0**53
"""The most that one update may count: a float tells whole numbers apart up to here, and totals stay finite."""


def _always(_owner: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Number:
    """The row of one number.

    ``metric`` ends in its unit (nats, ratio, seconds, updates), a counter in ``_total``. ``labels`` tell apart
    numbers that share a metric. A value outside [``least``, ``most``] is an error; ``most`` is None for
    the maximum entropy of the head. ``kept``: an update without the number leaves the last value. ``present``:
    whether the object that holds the number has measured it. ``argument``: its name in ``record``, if it differs.
    ``after``: the metric that it follows in the body; by default metrics stand in the order of the rows.
    """

    metric: str
    help: str
    kind: Literal["gauge", "counter", "histogram"] = "gauge"
    labels: tuple[tuple[str, str], ...] = ()
    least: float = -math.inf
    most: float | None = math.inf
    kept: bool = False
    present: Callable[[Any], bool] = _always
    argument: str = ""
    after: str = ""

    def bounds(self, max_entropy: float = math.inf) -> tuple[float, float]:
        """The smallest and the largest possible value, both finite, for a head of this maximum entropy."""
        most = max_entropy if self.most is None else self.most
        return max(self.least, -sys.float_info.max), min(most, sys.float_info.max)


def _interventions(direction: str) -> Number:
    text = "Updates that began with a coefficient which the entropy controller of the head had changed."
    return Number("rl_policy_head_interventions_total", text, "counter", (("direction", direction),), least=0.0)


# fmt: off
# Two or three lines a row: the table is read as a table.
@dataclass(frozen=True, slots=True)
class HeadNumbers:
    """What a training loop measures of a head. None: the update did not measure it."""

    entropy: Annotated[float | None, Number(
        "rl_policy_head_entropy_nats", least=0.0, most=None, present=lambda owner: owner.measured,
        help="Mean entropy of the head under its step mask, over the steps and epochs of the last measured update.",
    )] = None
    choice_entropy: Annotated[float | None, Number(
        "rl_policy_head_choice_entropy_ratio", least=0.0, most=1.0,
        help="Mean entropy relative to ln(valid choices) over the steps at which the head decided something.")] = None
    choice_share: Annotated[float | None, Number("rl_policy_head_choice_steps_ratio", least=0.0, most=1.0,
        help="Share of the steps at which the head was consulted and had two or more valid choices.")] = None
    open_share: Annotated[float | None, Number("rl_policy_head_open_steps_ratio", least=0.0, most=1.0,
        help="Share of the steps at which some valid operation would have left the head two or more choices.")] = None
    gradient_norm: Annotated[float | None, Number(
        "rl_policy_head_gradient_norm", least=0.0, argument="head_gradient_norm",
        help="Gradient norm of the parameters of the head before clipping, mean of the finite ones of the update.",
    )] = None
    importance_ratio_max: Annotated[float | None, Number(
        "rl_policy_head_importance_ratio_max", least=0.0, argument="head_importance_ratio_max",
        help="Largest probability ratio between the updated policy and the one that acted, at a choice step.")] = None
    state_information: Annotated[float | None, Number("rl_policy_head_state_information_nats", least=0.0, most=None,
        help="How much better the state explains the decisions of the head than its best fixed preference; 0: blind.",
    )] = None
    advantage_margin: Annotated[float | None, Number("rl_policy_head_advantage_margin_ratio", help=
        "Mean normalized advantage of the leading action of the head less that of its others, over recent updates.",
    )] = None
    advantage_margin_t: Annotated[float | None, Number("rl_policy_head_advantage_margin_t_ratio",
        help="Welch's t of the advantage margin; above 2 the head is paid for its leading action.")] = None
    state_information_ratio: Annotated[float | None, Number(
        "rl_policy_head_state_information_ratio", least=0.0, most=1.0, after="rl_policy_head_state_information_nats",
        help="Share of the uncertainty about the action at a choice step that the state explains (Theil's U).")] = None
    entropy_target: Annotated[float | None, Number("rl_policy_head_entropy_target_ratio", least=0.0, most=1.0,
        help="Effective ratio that an entropy controller holds the head at; it falls while the head decides by the state.")] = None
    entropy_coefficient_applied: Annotated[float | None, Number("rl_policy_head_entropy_coefficient_applied", least=0.0,
        help="Entropy coefficient of a controlled head in the last update: base x multiplier + what the controller added.")] = None
    entropy_coefficient_proposed: Annotated[float | None, Number("rl_policy_head_entropy_coefficient_proposed", least=0.0,
        help="Entropy coefficient that a controller which only observes would have applied to the head.")] = None
    interventions_raised: Annotated[float | None, _interventions("raise")] = None
    interventions_released: Annotated[float | None, _interventions("release")] = None
    controller_saturated: Annotated[float | None, Number("rl_policy_head_controller_saturated_updates", least=0.0,
        help="Consecutive updates at which the head needed the most that its entropy controller may add, or more.")] = None


@dataclass(frozen=True, kw_only=True)
class PolicyNumbers:
    """What a training loop measures of the whole policy."""

    entropy_coefficient: Annotated[float | None, Number(
        "rl_policy_entropy_coefficient", help="Base entropy coefficient of the loss.", kept=True)] = None
    kl_divergence: Annotated[float | None, Number("rl_policy_kl_divergence_nats", least=0.0,
        help="Mean of (ratio - 1 - log ratio) between the updated policy and the one that acted.")] = None
    clipped_share: Annotated[float | None, Number("rl_policy_clipped_steps_ratio", least=0.0, most=1.0, help=
        "Share of the steps at which the importance ratio of a deciding head was outside the clip range.")] = None
    gradient_norm: Annotated[float | None, Number("rl_policy_gradient_norm", least=0.0,
        help="Norm of the whole gradient before clipping, mean over the optimiser steps of the update.")] = None
    policy_loss: Annotated[float | None, Number("rl_policy_loss",
        help="Clipped surrogate loss, summed over the heads, mean over the optimiser steps of the update.")] = None
    value_loss: Annotated[float | None, Number("rl_value_loss", help=
        "Half the mean squared error of the value estimates, mean over the optimiser steps of the update.")] = None
    explained_variance: Annotated[float | None, Number("rl_value_explained_variance", most=1.0,
        help="Share of the variance of the returns that the value estimates of the rollout explained.")] = None


@dataclass(frozen=True, kw_only=True)
class TrainingNumbers:
    """What a training loop counts: in a payload what the update added, in a snapshot the totals of the run."""

    environment_steps: Annotated[int, Number("rl_training_environment_steps_total", kind="counter", least=0.0, most=COUNT_MOST,
        help="Environment steps since the start of the run, over all parallel environments.")] = 0
    episodes: Annotated[int, Number("rl_training_episodes_total", kind="counter", least=0.0, most=COUNT_MOST,
        help="Episodes finished since the start of the run, over all parallel environments.")] = 0
    episode_return: Annotated[float | None, Number(
        "rl_training_episode_return", help="Mean return of the last finished episodes, 100 at most.", kept=True,
    )] = None
    learning_rate: Annotated[float | None, Number("rl_training_learning_rate", least=0.0, kept=True,
        help="Step size of the optimiser in the last update.")] = None
    episode_length: Annotated[float | None, Number("rl_training_episode_length_steps", least=0.0, kept=True,
        after="rl_training_episode_return_max",
        help="Mean length of the last finished episodes, 100 at most.")] = None


@dataclass(frozen=True, kw_only=True)
class DurationNumbers:
    """How long the parts of an update took, in seconds. A snapshot keeps a histogram of each, named in the plural."""

    update_duration: Annotated[float | None, Number(
        "rl_training_update_duration_seconds", kind="histogram", least=0.0,
        help="Time spent optimising, per update; rollouts are counted apart.")] = None
    rollout_duration: Annotated[float | None, Number(
        "rl_training_rollout_duration_seconds", kind="histogram", least=0.0,
        help="Time spent collecting a rollout, per update.")] = None
# fmt: on


@dataclass(frozen=True, slots=True)
class Attribute:
    """A field with a row, as readers and writers use it."""

    name: str
    row: Number
    whole: bool
    """Whether it counts something."""

    optional: bool
    """Whether the field has a default, so that a body without the number still says everything."""

    def of(self, owner: object) -> float | None:
        """The number, or None where ``owner`` has not measured it."""
        value: float | None = getattr(owner, self.name)
        return value if value is not None and self.row.present(owner) else None


@cache
def attributes(owner: type) -> tuple[Attribute, ...]:
    """The fields of a dataclass that are numbers, in order, those of its base classes first."""
    rows: dict[str, tuple[Number, bool]] = {}
    for base in owner.__mro__:  # a class that narrows the type of a field keeps the row of its base
        for name, hint in get_type_hints(base, include_extras=True).items():
            declared, *extras = get_args(hint) or (None,)
            for row in extras:
                if isinstance(row, Number):
                    rows.setdefault(name, (row, declared is int or int in get_args(declared)))
    return tuple(
        Attribute(field.name, *rows[field.name], field.default is not MISSING)
        for field in fields(owner)
        if field.name in rows
    )
