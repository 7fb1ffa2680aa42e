"""The immutable state of a run, which /metrics, panels and logs read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from rl_exporter.environment_metrics import EnvironmentNumber
from rl_exporter.heads import MAXIMUM, Head, Heads, entropy_attribute_head, require_label_value
from rl_exporter.health import DEFAULT_THRESHOLDS, Condition, HeadState, Level, Thresholds, is_blind, level
from rl_exporter.histogram import DURATION_BOUNDS, RATIO_BOUNDS, Histogram
from rl_exporter.immutable import Picklable
from rl_exporter.memory import Memories
from rl_exporter.numbers import HeadNumbers, Number, PolicyNumbers, TrainingNumbers


def _nonfinite(kind: str) -> Number:
    return Number(
        "rl_policy_head_nonfinite_values_total",
        "Steps whose logits at valid actions held NaN, else infinity, and gradient norms that were not finite.",
        "counter",
        labels=(("kind", kind),),
    )


NO_RATIOS = Histogram.empty(RATIO_BOUNDS)
NO_DURATIONS = Histogram.empty(DURATION_BOUNDS)


class RunState(StrEnum):
    """Whether a run trains, and how it ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Identity and description of a run. ``run_id`` is the name that people read.

    Raises ValueError when ``run_id`` is empty or a text is not valid UTF-8.
    """

    run_id: str
    experiment: str = ""
    algorithm: str = ""
    environment: str = ""
    seed: str = ""
    device: str = ""
    world_size: int = 1

    def __post_init__(self) -> None:
        if not self.run_id:
            raise ValueError("run_id is empty; give the run a name, or leave it out for a generated one")
        for name in ("run_id", "experiment", "algorithm", "environment", "seed", "device"):
            require_label_value(name, getattr(self, name))


def effective_ratio(
    normalized: float | None, choice_entropy: float | None, choice_share: float | None
) -> float | None:
    """The ratio that the verdict comes from: choice entropy, or normalized entropy without a choice share.

    None for an update without a choice step: it says nothing about how the head decides.
    """
    if choice_entropy is not None or choice_share is not None:
        return choice_entropy
    return normalized


def relative_ratio(entropy: float | None, reference: float | None, choice_share: float | None) -> float | None:
    """Entropy over its reference, both in nats; None without a reference, or without choice steps."""
    if entropy is None or reference is None or choice_share == 0.0:
        return None
    return entropy / reference


@dataclass(frozen=True, slots=True)
class HeadReading(HeadNumbers):
    """The last known numbers of one head. A ratio is None where no update has said anything about it.

    ``entropy`` (nats) reads 0.0 as long as ``measured_update``, the update that it comes from, is 0. Streaks
    count consecutive updates; the low ones are None before the first effective ratio. ``conditions`` have held
    for three updates or more; each comes with the Unix time of its first update.
    """

    entropy: float = 0.0
    normalized: Annotated[
        float | None,
        Number(
            "rl_policy_head_entropy_normalized_ratio",
            "Entropy of the head divided by its maximum: 1 is uniform, 0 is deterministic.",
            after="rl_policy_head_entropy_nats",
        ),
    ] = None
    reference: Annotated[
        float | None,
        Number(
            "rl_policy_head_entropy_reference_nats",
            "Entropy of the head that counts as 1: its maximum, its start, or a declared number.",
            after="rl_policy_head_entropy_max_nats",
        ),
    ] = None
    slope: Annotated[
        float | None,
        Number(
            "rl_policy_head_entropy_slope_ratio",
            "Least-squares change of the effective ratio per update, over the last 10 updates that had one.",
            after="rl_policy_head_low_entropy_streak_updates",
        ),
    ] = None
    state_streak: Annotated[
        int,
        Number(
            "rl_policy_head_state_streak_updates",
            "Consecutive updates that the head has been in its present state.",
            present=lambda owner: owner.state is not None,
        ),
    ] = 0
    nan_values: Annotated[int, _nonfinite("nan")] = 0
    inf_values: Annotated[int, _nonfinite("inf")] = 0
    measured_update: int = 0
    warning_streak: int | None = None
    critical_streak: int | None = None
    state: HeadState | None = None
    action_shares: tuple[float, ...] = ()
    thresholds: Thresholds = DEFAULT_THRESHOLDS
    relative: bool = False
    """Whether the verdict compares the entropy with a reference other than the head's maximum."""
    effective_histogram: Histogram = NO_RATIOS
    conditions: tuple[tuple[Condition, float], ...] = ()

    @property
    def measured(self) -> bool:
        """Whether any update has measured an entropy."""
        return self.measured_update > 0

    @property
    def effective(self) -> float | None:
        """The ratio that the verdict comes from: see ``effective_ratio``."""
        if self.relative:
            return relative_ratio(self.entropy if self.measured else None, self.reference, self.choice_share)
        return effective_ratio(self.normalized, self.choice_entropy, self.choice_share)

    @property
    def level(self) -> Level | None:
        """Level of the effective ratio under the head's own thresholds."""
        return level(self.effective, self.thresholds)

    @property
    def blind(self) -> bool:
        """Whether the head decides without looking at the state, as far as is known.

        What has held for three updates stands, although the last one may be an exception.
        """
        held = {condition for condition, _ in self.conditions}
        if held & {Condition.LOW, Condition.COLLAPSED, Condition.SETTLED}:
            return Condition.SETTLED not in held
        return is_blind(self.state_information, self.state_information_ratio)

    @property
    def settled(self) -> bool:
        """Whether the head is critical by its level, but decides by the state."""
        return self.level is Level.CRITICAL and not self.blind

    @property
    def leading_action(self) -> int | None:
        """Index of the action with the largest share of the choice steps; None where shares are not known."""
        shares = self.action_shares
        return max(range(len(shares)), key=shares.__getitem__) if shares else None


def first_reading(head: Head) -> HeadReading:
    """The reading of a head that no update has measured: only what was declared is known."""
    return HeadReading(
        reference=declared_reference(head), thresholds=head.thresholds, relative=head.reference != MAXIMUM
    )


def declared_reference(head: Head) -> float | None:
    """Nats that count as 1 as far as the declaration says: None for ``start``, and for a head of one choice."""
    if head.reference == MAXIMUM:
        return head.max_entropy if head.choices > 1 else None
    return None if isinstance(head.reference, str) else float(head.reference)


@dataclass(frozen=True, kw_only=True)
class TamiyoState(Picklable, PolicyNumbers):
    """The policy after its last update.

    ``state.head_<name>_entropy`` is the entropy in nats of a declared head, 0.0 before the first
    update; ``updates`` tells the two apart. ``entropy`` is the sum over the heads, None unless the
    last update measured every head.
    """

    heads: Heads
    readings: Mapping[str, HeadReading]
    entropy: Annotated[
        float | None,
        Number(
            "rl_policy_entropy_nats",
            "Sum of the entropies of all heads; absent unless the last update measured every head.",
            after="rl_policy_entropy_coefficient",
        ),
    ] = None
    updates: Annotated[
        int, Number("rl_training_updates_total", "PPO updates since the start of the run.", "counter")
    ] = 0
    memories: Memories = field(default=(), compare=False, repr=False)
    """What lets a run that resumes go on judging each head; empty where /metrics was read back."""

    @classmethod
    def before_first_update(cls, heads: Heads, entropy_coefficient: float | None = None) -> TamiyoState:
        """The state of a policy that has not been updated yet."""
        readings = MappingProxyType({head.name: first_reading(head) for head in heads})
        return cls(heads=heads, readings=readings, entropy_coefficient=entropy_coefficient)

    def __getattr__(self, attribute: str) -> float:
        name = entropy_attribute_head(attribute)
        if name is None or name not in self.readings:
            raise AttributeError(f"{type(self).__name__} has no attribute {attribute!r}")
        return self.readings[name].entropy

    def unmeasured_updates(self, name: str) -> int | None:
        """Updates since head ``name`` was last measured, or None if it never was."""
        measured = self.readings[name].measured_update
        return self.updates - measured if measured else None

    def weakest(self) -> str | None:
        """Name of the head with the lowest effective ratio, or None if no head has one."""
        ratios = {name: r.effective for name, r in self.readings.items() if r.effective is not None}
        return min(ratios, key=ratios.__getitem__, default=None)


@dataclass(frozen=True, kw_only=True)
class SanctumSnapshot(TrainingNumbers):
    """One update as a whole: the policy in ``tamiyo``, and the run around it. Times are Unix seconds."""

    run: RunInfo
    tamiyo: TamiyoState
    run_state: RunState = RunState.RUNNING
    start_timestamp: Annotated[
        float, Number("rl_training_start_timestamp_seconds", "Unix time of the start of the run.")
    ]
    resumed_updates: Annotated[
        int,
        Number(
            "rl_training_resumed_updates",
            "Updates that the run had made when it was resumed; 0 for one that was not.",
            least=0.0,
            after="rl_training_updates_total",
        ),
    ] = 0
    episode_return_max: Annotated[
        float | None, Number("rl_training_episode_return_max", "Highest mean return of the run so far.")
    ] = None
    last_update_timestamp: Annotated[
        float | None, Number("rl_training_last_update_timestamp_seconds", "Unix time of the last update.")
    ] = None
    update_durations: Histogram = NO_DURATIONS
    rollout_durations: Histogram = NO_DURATIONS
    record_errors: int = 0
    environment_metrics: tuple[EnvironmentNumber, ...] = ()
    """What the environments report, ordered by series."""
    dropped: tuple[tuple[str, int], ...] = ()
    """Values that were impossible and not kept: argument of ``record``, and how many."""
