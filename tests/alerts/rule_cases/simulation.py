"""A simulated run: what each update measures, and what the exporter then remembers of the heads.

Implemented from the definitions and not with the exporter's code, so that a test can compare the two.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.alerts.rule_cases.definitions import blind_or_exception, explained, is_blind, state_of

SCRAPE_SECONDS = 15


class Measured(NamedTuple):
    """What one update measured of one head: ratios in [0, 1] and gradient norm ``g``. None: not measured.

    ``information``: state information in nats; ``explained``: its share of what is uncertain. ``shares``: of the actions, by name. ``margin_t``: Welch's t of
    the advantage margin. ``saturated``: updates that a controller of the head has been at its bound; None without one.
    """

    normalized: float | None = None
    choice: float | None = None
    share: float | None = None
    open: float | None = None
    g: float | None = 1.0
    nans: int = 0
    information: float | None = None
    shares: tuple[tuple[str, float], ...] = ()
    margin_t: float | None = None
    explained: float | None = None
    saturated: int | None = None


def decides(ratio: float, information: float | None = None) -> Measured:
    """A head with choice steps in half of the steps, and this choice entropy."""
    return Measured(normalized=0.9 * ratio, choice=ratio, share=0.5, open=0.8, information=information)


def normalized_only(ratio: float) -> Measured:
    """A head of a policy that reports only normalized entropy."""
    return Measured(normalized=ratio)


STARVED = Measured(normalized=0.8, share=0.0, open=0.6)
CLOSED = Measured(normalized=0.0, share=0.0, open=0.0)
UNMEASURED = Measured(g=None)

Policy = Callable[[int], Mapping[str, Measured]]
"""Returns what update number 1, 2, … measured, by head."""


def constant(measured: Measured) -> Policy:
    """A policy whose head op measures the same in every update."""
    measurements: Mapping[str, Measured] = {"op": measured}
    return lambda _number: measurements


ALWAYS_HEALTHY = constant(decides(0.8))
ALWAYS_COLLAPSED = constant(decides(0.1))


class Declared(NamedTuple):
    """What a run declares of a head beside its choices. ``reference``: nats, ``"start"``, or None for the maximum."""

    warning: float = 0.5
    critical: float = 0.25
    reference: float | str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, its target and its end. All times are seconds since the start of the test.

    Update k happens at ``start + phase + k * period``, until ``last_update`` or the end. From ``gone`` on
    nothing answers; at ``removed`` the target leaves discovery. ``failed_scrapes``: times of scrapes that fail.
    """

    policy: Policy
    period: float
    run_id: str = "a"
    start: float = 0
    phase: float = 1
    choices: Mapping[str, int] = field(default_factory=lambda: {"op": 6})
    declared: Mapping[str, Declared] = field(default_factory=dict)
    instance: str = "host:28008"
    labels: Mapping[str, str] = field(default_factory=dict)
    last_update: float = math.inf
    end: tuple[float, str] = (math.inf, "completed")
    gone: float = math.inf
    removed: float = math.inf
    failed_scrapes: tuple[float, ...] = ()
    scrape_every: int = SCRAPE_SECONDS
    """Scrape interval in seconds, a multiple of the one of the test."""
    sample_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that metric_relabel_configs add to every sample; ``up`` never has them."""
    run_labels: Mapping[str, str] = field(default_factory=dict)
    """Likewise, where they are derived from the run_id, which the metrics of the process lack."""
    record_errors: Callable[[float], float] = lambda _time: 0.0
    resumed: int = 0
    """Updates that it had made before its start."""
    durations: bool = True
    """Whether the training loop reports how long rollouts and updates take."""
    returns: Callable[[int], float] | None = None
    """Mean return after each update."""

    def update_time(self, number: int) -> float:
        """Time of update ``number``, counted from 1."""
        return self.start + self.phase + number * self.period


class HeadState:
    """What the exporter remembers of one head between updates."""

    def __init__(self, choices: int, declared: Declared) -> None:
        self.most = math.log(choices)
        self.declared = declared
        self.reference = self.most if declared.reference is None else declared.reference
        self.first: list[float] = []
        """Entropies of the first updates, whose median becomes the reference ``"start"``."""
        self.since: dict[str, tuple[int, float]] = {}
        """Number of updates and time of beginning of each current condition."""
        self.normalized: float | None = None
        self.last = Measured()
        self.measured_update = 0
        self.count = 0
        self.streaks = {declared.critical: 0, declared.warning: 0}
        self.ratios: list[tuple[int, float]] = []
        self.informed: list[tuple[float, float | None]] = []
        self.state = ""
        self.state_streak = 0
        self.nans = 0

    def update(self, number: int, measured: Measured, now: float) -> None:
        self.nans += measured.nans
        self._condition("unmeasured", measured.normalized is None, now)
        if measured.normalized is not None:
            self._learn_reference(measured.normalized * self.most)
        ratio = None if measured.normalized is None else self._ratio(measured)
        self._condition("idle", ratio is None, now)
        if measured.normalized is None:
            return
        self.normalized, self.last, self.measured_update = measured.normalized, measured, number
        part = explained_share(measured, self.most)
        blind = is_blind(measured.information, part)
        if ratio is not None:
            if measured.information is not None:
                self.informed = [*self.informed, (measured.information, part)][-10:]
                self._count(number, ratio, blind_or_exception(self.informed), now)
            else:
                self._count(number, ratio, True, now)
        self._condition("starved", measured.share == 0 and (measured.open or 0) > 0, now)
        state = self._state(ratio, measured, blind)
        for bad in ("dead", "exploding"):
            self._condition(bad, state == bad, now)
        if state:
            self.state_streak = self.state_streak + 1 if state == self.state else 1
            self.state = state

    def _learn_reference(self, nats: float) -> None:
        if self.reference == "start":
            self.first.append(nats)
            if len(self.first) == 10:
                self.reference = statistics.median(self.first)

    def _ratio(self, measured: Measured) -> float | None:
        """The effective ratio of one update; None without a finite one."""
        if self.declared.reference is None:
            ratio = measured.normalized if measured.share is None else measured.choice
        elif isinstance(self.reference, str) or measured.share == 0:
            return None
        else:
            ratio = (measured.normalized or 0) * self.most / self.reference
        return ratio if ratio is not None and math.isfinite(ratio) else None

    def _count(self, number: int, ratio: float, blind: bool | None, now: float) -> None:
        self.count += 1
        self.ratios = [*self.ratios, (number, ratio)][-10:]
        for threshold, streak in self.streaks.items():
            self.streaks[threshold] = streak + 1 if ratio <= threshold else 0
        low = 0 < self.declared.warning >= ratio
        critical = 0 < self.declared.critical >= ratio
        self._condition("warning", low, now)
        self._condition("critical", critical, now)
        for name, level, holds in (
            ("low", low, blind),
            ("collapsed", critical, blind),
            ("settled", critical, blind is False),
        ):
            if not level or blind is not None:
                self._condition(name, level and bool(holds), now)

    def _state(self, ratio: float | None, measured: Measured, blind: bool) -> str:
        if self.declared.reference is None:
            uniform = ratio is not None and ratio > 0.9
        else:
            uniform = (measured.normalized or 0) > 0.9
        if ratio is None and measured.share != 0 and not (measured.g is not None and measured.g > 5):
            return ""
        return state_of(ratio, measured.g, blind, uniform, self.declared[:2])

    def _condition(self, name: str, holds: bool, begins: float) -> None:
        updates, since = self.since.get(name, (0, begins))
        if holds:
            self.since[name] = updates + 1, since
        else:
            self.since.pop(name, None)


def explained_share(measured: Measured, most: float) -> float | None:
    """Share of the uncertainty that the state explains: as reported, or derived."""
    if measured.explained is not None or measured.information is None or measured.normalized is None:
        return measured.explained
    share = measured.share if measured.open is None else measured.open
    return explained(measured.information, measured.normalized * most, share)
