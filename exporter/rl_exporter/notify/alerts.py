"""The alerts that a process judges by itself: those of ``alerts/rules`` that page, with their times.

Those of severity info page nobody, and are not judged. A test compares the two judges case by case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from rl_exporter.health import Condition

MINUTE = 60.0
"""A condition pages once it has held for this long, beside its three updates. Seconds, as all times here."""

HYSTERESIS = 270.0
"""What held within this time still counts: a head that hovers at a threshold keeps one alert open."""

BRIDGE = 180.0
"""What held within this time counts where no hysteresis is wanted: it bridges looks that failed."""

STARVED_AFTER = 600.0
"""A head may go without decisions for this long before it is starved, or before its ratio says nothing."""

NONFINITE_FOR = 390.0
ERRORS_FOR = 600.0
"""For this long after a count has risen its alert fires."""

BOUND_UPDATES, BOUND_WITHIN = 10, 600.0
"""A controller is spent that was at its bound for so many updates in a row, at some look within this time."""

LOST_AFTER = 150.0
"""A run that does not answer, or is no longer listed, is lost after this time."""

VANISHED_FOR, FAILED_FOR = 3600.0, 900.0
"""For this long a run that is gone, or has failed and answers no more, is still an alert."""

STALLED_AFTER, STALLED_UPDATES = 600.0, 5
"""A run has stalled when its last update is this old, and as old as this many usual updates."""


class Severity(StrEnum):
    """How urgent an alert is; the order is that of messages."""

    CRITICAL = "critical"
    WARNING = "warning"


class Control(StrEnum):
    """What an entropy controller of the head has to do with an alert about it."""

    NOTHING = "nothing"
    LEFT_TO_IT = "left to it"
    """The alert is silent while the controller acts and is not at its bound."""
    SPENT = "spent"
    """The alert needs a controller that has been at its bound."""


class HeadAlert(NamedTuple):
    """An alert on a condition of a head that has held ``after`` seconds, and did within the last ``held``.

    It does not fire where ``unless`` holds, too.
    """

    name: str
    severity: Severity
    condition: Condition
    summary: str
    after: float = MINUTE
    held: float = HYSTERESIS
    unless: Condition | None = None
    control: Control = Control.NOTHING


class RunAlert(NamedTuple):
    """An alert on a run as a whole, or on a count of one of its heads."""

    name: str
    severity: Severity
    summary: str


HEAD_ALERTS = (
    HeadAlert("RLPolicyControllerSaturated", Severity.CRITICAL, Condition.COLLAPSED,
              "head {head} stays collapsed although its controller adds all it may",
              unless=Condition.IDLE, control=Control.SPENT),
    HeadAlert("RLPolicyHeadDead", Severity.CRITICAL, Condition.DEAD, "head {head} is dead",
              control=Control.LEFT_TO_IT),
    HeadAlert("RLPolicyHeadCollapsed", Severity.CRITICAL, Condition.COLLAPSED, "head {head} has collapsed",
              unless=Condition.IDLE, control=Control.LEFT_TO_IT),
    HeadAlert("RLPolicyHeadGradientsExploding", Severity.CRITICAL, Condition.EXPLODING,
              "gradients of head {head} are exploding"),
    HeadAlert("RLPolicyHeadEntropyLow", Severity.WARNING, Condition.LOW, "head {head} has low entropy",
              unless=Condition.IDLE, control=Control.LEFT_TO_IT),
    HeadAlert("RLPolicyHeadStarved", Severity.WARNING, Condition.STARVED, "head {head} is starved",
              STARVED_AFTER, BRIDGE, Condition.UNMEASURED),
    HeadAlert("RLPolicyHeadsMissing", Severity.WARNING, Condition.UNMEASURED, "head {head} is not measured",
              held=BRIDGE),
)  # fmt: skip

NONFINITE = RunAlert("RLPolicyHeadNonFinite", Severity.WARNING, "head {head} produced NaN or infinity")
STALLED = RunAlert("RLTrainingStalled", Severity.WARNING, "the run has stalled")
ERRORS = RunAlert("RLExporterRecordErrors", Severity.WARNING, "telemetry has errors")
FAILED = RunAlert("RLTrainingFailed", Severity.CRITICAL, "the run has failed")
DOWN = RunAlert("RLTrainingTargetDown", Severity.WARNING, "the run does not answer")
VANISHED = RunAlert("RLTrainingVanished", Severity.CRITICAL, "the run has vanished")

SUSTAINED: Mapping[Condition, float] = MappingProxyType(
    dict.fromkeys((alert.condition for alert in HEAD_ALERTS), MINUTE) | {Condition.IDLE: STARVED_AFTER}
)
"""Conditions that the alerts rest on, and the time for which each must have held to count at all."""

SILENCED_WHEN_IDLE = frozenset({Condition.LOW, Condition.COLLAPSED})
"""Conditions that only stand still while a head decides nothing."""


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires since a Unix time. ``source``: where its run answers; ``head``: empty for the run."""

    name: str
    severity: Severity
    run_id: str
    head: str
    since: float
    summary: str
    evidence: str = ""
    source: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Equal for the same alert at two looks."""
        return self.source, self.run_id, self.name, self.head


def inhibits(source: Firing, target: Firing) -> bool:
    """Whether ``source`` says what ``target`` says, or explains it, as in ``alerts/alertmanager.yml``."""
    if (source.source, source.run_id) != (target.source, target.run_id) or source.key == target.key:
        return False
    if source.name == "RLPolicyHeadCollapsed" and source.head == "op" and target.name == "RLPolicyHeadStarved":
        return True  # operations that the policy no longer chooses explain the heads that they consult
    if source.head != target.head:
        return False
    if source.name == "RLPolicyControllerSaturated" and target.severity is Severity.CRITICAL:
        return target.name in {"RLPolicyHeadCollapsed", "RLPolicyHeadDead"}
    if source.name == "RLPolicyHeadDead" and target.name == "RLPolicyHeadCollapsed":
        return True
    return source.severity is Severity.CRITICAL and target.severity is Severity.WARNING
