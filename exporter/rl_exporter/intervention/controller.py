"""The controller of a policy: which heads it holds, and what each one's entropy coefficient becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from types import MappingProxyType
from typing import Any, Literal

from rl_exporter.heads import Head, Heads
from rl_exporter.intervention.law import DEFAULT_GAINS, Gains, HeadControl, answer
from rl_exporter.payload import NOT_MEASURED, HeadMeasurement
from rl_exporter.snapshot import HeadReading, SanctumSnapshot

Mode = Literal["on", "observe"]

_ACTED = "acted"


def require_ratio(name: str, ratio: object) -> float:
    """The target of a head, which is an effective ratio. Raises ValueError with the remedy."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0.0 < ratio < 1.0:
        raise ValueError(f"head {name!r} has target {ratio!r}; give a number between 0 and 1")
    return float(ratio)


def _target(head: Head, given: object) -> float:
    if head.choices < 2:
        raise ValueError(f"head {head.name!r} has one choice, so its entropy is always 0; leave it out")
    ratio = require_ratio(head.name, given)
    critical = head.thresholds.critical
    if ratio <= critical:
        raise ValueError(
            f"head {head.name!r} has target {ratio:g}, not above its critical threshold {critical:g}: it "
            "would be held where it counts as collapsed; give a higher target, or a lower threshold"
        )
    return ratio


class EntropyController:
    """Holds the effective ratio of some heads at their targets, by what it adds to their entropy coefficients.

    It acts on a head that is low and blind, and on no other. Call ``coefficients`` once after every update. A
    snapshot without a new effective ratio of a head changes nothing for it, so that a second call does no harm.
    With mode ``observe`` nothing is ever added, and ``numbers`` says what would have been. Not thread-safe.

    Raises ValueError, with the remedy, for targets that are impossible.
    """

    def __init__(
        self, heads: Heads, targets: Mapping[str, float], *, mode: Mode = "on", gains: Gains = DEFAULT_GAINS
    ) -> None:
        if mode not in {"on", "observe"}:
            raise ValueError(f"mode {mode!r} is unknown; give on or observe")
        if not targets:
            raise ValueError("no head has a target; give one, such as blueprint=0.4")
        self._targets = {name: _target(heads.named(name), ratio) for name, ratio in targets.items()}
        self._heads, self._gains, self._acts = heads, gains, mode == "on"
        self._controls: Mapping[str, HeadControl] = MappingProxyType(
            dict.fromkeys(self._targets, HeadControl())
        )

    @property
    def controls(self) -> Mapping[str, HeadControl]:
        """What is known of each controlled head after the last snapshot; a later one makes another mapping."""
        return self._controls

    def added(self, snapshot: SanctumSnapshot) -> Mapping[str, float]:
        """Nats on top of the entropy coefficient of each controlled head in the next update."""
        readings = snapshot.tamiyo.readings
        self._controls = MappingProxyType(
            {name: self._after(control, name, readings.get(name)) for name, control in self._controls.items()}
        )
        return self.adding

    @property
    def adding(self) -> Mapping[str, float]:
        """Nats that the next update gets on top, by controlled head; 0.0 with mode ``observe``."""
        return {name: control.added if self._acts else 0.0 for name, control in self._controls.items()}

    def coefficients(self, snapshot: SanctumSnapshot, base: float | None = None) -> Mapping[str, float]:
        """Entropy coefficient of every head, in nats, for the next update: base x multiplier + what is added.

        ``base`` is that of the next update; by default that of the snapshot. Raises ValueError without one.
        """
        base = snapshot.tamiyo.entropy_coefficient if base is None else base
        if base is None:
            raise ValueError("the base coefficient is not known; record entropy_coefficient, or give base")
        return self._coefficients(base, self.added(snapshot))

    def _coefficients(self, base: float, added: Mapping[str, float]) -> Mapping[str, float]:
        return {head.name: base * head.entropy_multiplier + added.get(head.name, 0.0) for head in self._heads}

    def _after(self, control: HeadControl, name: str, reading: HeadReading | None) -> HeadControl:
        """The control of a head after a snapshot. No new effective ratio leaves it as it is."""
        if reading is None or reading.effective is None or not math.isfinite(reading.effective):
            return control
        seen = sum(reading.effective_histogram.counts)
        if seen == control.seen:
            return control
        # The run has the counters where this controller is not the first one of it.
        raised = max(control.raised, int(reading.interventions_raised or 0))
        released = max(control.released, int(reading.interventions_released or 0))
        control = replace(control, raised=raised, released=released)
        target = self._targets[name]
        found = answer(control, self._gains, target, reading.effective, seen, blind=reading.blind)
        return found if self._acts else replace(found, raised=raised, released=released)

    def numbers(self, base: float | None = None) -> dict[str, dict[str, float]]:
        """Arguments for ``record`` that describe the update between two calls of ``coefficients``.

        ``base`` is the base coefficient of that update; without it the coefficients themselves are left out.
        """
        controls = self._controls
        found: dict[str, Mapping[str, float]] = {
            "entropy_target": {name: self._targets[name] * c.share for name, c in controls.items()},
            "interventions_raised": {name: c.raised for name, c in controls.items()},
            "interventions_released": {name: c.released for name, c in controls.items()},
        }
        if self._acts:
            found["controller_saturated"] = {name: c.saturated for name, c in controls.items()}
        if base is not None:
            found["entropy_coefficient_applied"] = self._of_controlled(base, self.adding)
            if not self._acts:
                would = {name: control.added for name, control in controls.items()}
                found["entropy_coefficient_proposed"] = self._of_controlled(base, would)
        return {argument: {n: float(v) for n, v in values.items()} for argument, values in found.items()}

    def described(
        self, measured: Mapping[str, HeadMeasurement], base: float | None = None
    ) -> dict[str, HeadMeasurement]:
        """The measurements of the update that ``numbers`` describes, with those of each controlled head."""
        numbers = self.numbers(base)
        heads = dict(measured)
        for name in self._controls:
            of_head = {argument: by_head[name] for argument, by_head in numbers.items()}
            heads[name] = replace(heads.get(name, NOT_MEASURED), **of_head)  # type: ignore[arg-type] # floats all
        return heads

    def _of_controlled(self, base: float, added: Mapping[str, float]) -> dict[str, float]:
        every = self._coefficients(base, added)
        return {name: every[name] for name in added}

    def state(self) -> dict[str, dict[str, float]]:
        """What a checkpoint keeps, as plain numbers by head; ``acted`` is 0 with mode ``observe``."""
        return {name: asdict(control) | {_ACTED: int(self._acts)} for name, control in self._controls.items()}

    def restore(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from what ``state`` returned; a head that it lacks starts anew. Raises ValueError.

        Nothing is added yet after a controller that only observed.
        """
        try:
            found = {name: self._restored(state[name]) for name in self._controls if name in state}
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"no state of a controller: {error!r}; start anew") from error
        most = self._gains.most
        bounded = {
            name: replace(control, integral=min(control.integral, most), added=min(control.added, most))
            for name, control in found.items()
        }
        self._controls = MappingProxyType({**self._controls, **bounded})

    def _restored(self, state: Mapping[str, Any]) -> HeadControl:
        control = _control(state)
        acted = state.get(_ACTED)
        if acted not in {None, 0, 1}:
            raise ValueError(f"no state of a controller: {_ACTED} is {acted!r}; start anew")
        if not self._acts:
            # The last move is no longer applied. What was, the run has counted.
            return replace(control, raised=0, released=0)
        # What one that observed would have added answers a head that never had any of it.
        return replace(control, integral=0.0, added=0.0, saturated=0) if acted == 0 else control


def _control(state: Mapping[str, Any]) -> HeadControl:
    control = HeadControl(**{field.name: state[field.name] for field in fields(HeadControl)})
    for name, value in asdict(control).items():
        if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
            raise ValueError(f"no state of a controller: {name} is {value!r}; start anew")
    return control
