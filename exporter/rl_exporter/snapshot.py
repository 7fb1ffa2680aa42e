"""The immutable picture of a run that everything downstream reads: /metrics, panels, logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from rl_exporter.heads import Heads, entropy_attribute_head, require_label_value
from rl_exporter.health import Condition, HeadState, Level, level
from rl_exporter.histogram import DURATION_BOUNDS, RATIO_BOUNDS, Histogram

NO_RATIOS = Histogram.empty(RATIO_BOUNDS)
NO_DURATIONS = Histogram.empty(DURATION_BOUNDS)


class RunState(StrEnum):
    """Where a run is in its life."""

    RUNNING = "running"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Who a run is. ``run_id`` is the name that people read; the rest describes it.

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
    """Choice entropy; normalized entropy where a policy reports no choice share; else None.

    Without a choice step nothing can be said about how the head decides.
    """
    if choice_entropy is not None or choice_share is not None:
        return choice_entropy
    return normalized


class HeadReading(NamedTuple):
    """The last known numbers of one head. Ratios are None where nothing can be said.

    ``entropy`` (nats) reads 0.0 until ``measured_update``, the update it is from, is above 0. Streaks count
    consecutive updates; the low ones are None until there was an effective ratio. ``conditions`` are those of
    three updates or more, each with the Unix time of the first of them.
    """

    entropy: float = 0.0
    normalized: float | None = None
    choice_entropy: float | None = None
    choice_share: float | None = None
    open_share: float | None = None
    measured_update: int = 0
    gradient_norm: float | None = None
    importance_ratio_max: float | None = None
    state: HeadState | None = None
    state_streak: int = 0
    warning_streak: int | None = None
    critical_streak: int | None = None
    slope: float | None = None
    nan_values: int = 0
    inf_values: int = 0
    effective_histogram: Histogram = NO_RATIOS
    conditions: tuple[tuple[Condition, float], ...] = ()

    @property
    def measured(self) -> bool:
        """Whether an entropy was ever measured."""
        return self.measured_update > 0

    @property
    def effective(self) -> float | None:
        """The ratio that the verdict comes from: see ``effective_ratio``."""
        return effective_ratio(self.normalized, self.choice_entropy, self.choice_share)

    @property
    def level(self) -> Level | None:
        """The verdict on this head, from its effective ratio."""
        return level(self.effective)


NO_READING = HeadReading()


@dataclass(frozen=True, slots=True, kw_only=True)
class TamiyoState:
    """The policy after its last update.

    ``state.head_<name>_entropy`` is the entropy in nats of a declared head, 0.0 before the first
    update; ``updates`` tells the two apart. ``entropy`` is the sum over the heads, None unless the
    last update measured every head.
    """

    heads: Heads
    readings: Mapping[str, HeadReading]
    updates: int = 0
    entropy: float | None = None
    entropy_coefficient: float | None = None
    kl_divergence: float | None = None
    clipped_share: float | None = None
    gradient_norm: float | None = None
    policy_loss: float | None = None
    value_loss: float | None = None
    explained_variance: float | None = None

    @classmethod
    def before_first_update(cls, heads: Heads, entropy_coefficient: float | None = None) -> TamiyoState:
        """The state of a policy that has not been updated yet."""
        readings = MappingProxyType(dict.fromkeys(heads.names, NO_READING))
        return cls(heads=heads, readings=readings, entropy_coefficient=entropy_coefficient)

    def __getattr__(self, attribute: str) -> float:
        name = entropy_attribute_head(attribute)
        if name is None or name not in self.readings:
            raise AttributeError(f"{type(self).__name__} has no attribute {attribute!r}")
        return self.readings[name].entropy

    def unmeasured_updates(self, name: str) -> int | None:
        """Updates since head ``name`` was last measured; None when it never was."""
        measured = self.readings[name].measured_update
        return self.updates - measured if measured else None

    def weakest(self) -> str | None:
        """Name of the head with the lowest effective ratio; None when no head has one."""
        ratios = {name: r.effective for name, r in self.readings.items() if r.effective is not None}
        return min(ratios, key=ratios.__getitem__, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SanctumSnapshot:
    """One update as a whole: the policy in ``tamiyo``, and the run around it. Times are Unix seconds."""

    run: RunInfo
    tamiyo: TamiyoState
    run_state: RunState = RunState.RUNNING
    start_timestamp: float
    last_update_timestamp: float | None = None
    environment_steps: int = 0
    episodes: int = 0
    episode_return: float | None = None
    rollout_durations: Histogram = NO_DURATIONS
    update_durations: Histogram = NO_DURATIONS
    record_errors: int = 0
