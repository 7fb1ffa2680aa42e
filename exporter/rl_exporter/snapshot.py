"""The immutable state of a run, which /metrics, panels and logs read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from rl_exporter.heads import Heads, entropy_attribute_head, require_label_value
from rl_exporter.health import CRITICAL_THRESHOLD, WARNING_THRESHOLD, Condition, HeadState, Level, level
from rl_exporter.histogram import DURATION_BOUNDS, RATIO_BOUNDS, Histogram
from rl_exporter.immutable import Picklable
from rl_exporter.numbers import HeadNumbers, Number, PolicyNumbers, TrainingNumbers


def _low_streak(threshold: float) -> Number:
    return Number(
        "rl_policy_head_low_entropy_streak_updates",
        "Consecutive updates, up to the last that had one, with an effective ratio at or below the threshold.",
        labels=(("threshold", f"{threshold:g}"),),
        after="rl_policy_head_effective_entropy_ratio",
    )


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
    critical_streak: Annotated[int | None, _low_streak(CRITICAL_THRESHOLD)] = None
    warning_streak: Annotated[int | None, _low_streak(WARNING_THRESHOLD)] = None
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
    state: HeadState | None = None
    effective_histogram: Histogram = NO_RATIOS
    conditions: tuple[tuple[Condition, float], ...] = ()

    @property
    def measured(self) -> bool:
        """Whether any update has measured an entropy."""
        return self.measured_update > 0

    @property
    def effective(self) -> float | None:
        """The ratio that the verdict comes from: see ``effective_ratio``."""
        return effective_ratio(self.normalized, self.choice_entropy, self.choice_share)

    @property
    def level(self) -> Level | None:
        """The level of the effective ratio."""
        return level(self.effective)


NO_READING = HeadReading()


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

    @classmethod
    def before_first_update(cls, heads: Heads, entropy_coefficient: float | None = None) -> TamiyoState:
        """The state of a policy before its first update."""
        readings = MappingProxyType(dict.fromkeys(heads.names, NO_READING))
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
    last_update_timestamp: Annotated[
        float | None, Number("rl_training_last_update_timestamp_seconds", "Unix time of the last update.")
    ] = None
    update_durations: Histogram = NO_DURATIONS
    rollout_durations: Histogram = NO_DURATIONS
    record_errors: int = 0
