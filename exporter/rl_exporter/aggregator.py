"""From payloads to snapshots: the one writer of the state that everything else reads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

from rl_exporter.heads import Head, Heads, within
from rl_exporter.payload import NOT_MEASURED, HeadMeasurement, PPOUpdatePayload
from rl_exporter.snapshot import HeadReading, RunInfo, RunState, SanctumSnapshot, TamiyoState


class SanctumAggregator:
    """Takes one payload per update and publishes an immutable snapshot of the run.

    Writers are serialized by a lock; readers take the last whole snapshot without one.
    """

    def __init__(
        self,
        heads: Heads,
        run: RunInfo,
        *,
        entropy_coefficient: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._heads = heads
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot = SanctumSnapshot(
            run=run,
            tamiyo=TamiyoState.before_first_update(heads, entropy_coefficient),
            start_timestamp=clock(),
        )

    def snapshot(self) -> SanctumSnapshot:
        """The run after its last update; never a mix of two updates."""
        return self._snapshot

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Count one update and take over what it measured.

        Values that are not finite or lie beyond their bounds count as record errors and are dropped.
        Raises ValueError, and changes nothing, when the payload names a head that was not declared.
        """
        for name in payload.heads:
            self._heads.named(name)
        with self._lock:
            before = self._snapshot
            tamiyo, errors = _next_state(before.tamiyo, payload)
            episode_return = _finite(payload.episode_return)
            self._snapshot = SanctumSnapshot(
                run=before.run,
                tamiyo=tamiyo,
                run_state=before.run_state,
                start_timestamp=before.start_timestamp,
                last_update_timestamp=self._clock(),
                environment_steps=before.environment_steps + payload.environment_steps,
                episodes=before.episodes + payload.episodes,
                episode_return=before.episode_return if episode_return is None else episode_return,
                record_errors=before.record_errors + errors,
            )

    def set_run_state(self, state: RunState) -> None:
        """Say where the run is in its life."""
        with self._lock:
            self._snapshot = replace(self._snapshot, run_state=state)

    def count_record_error(self) -> None:
        """Count an error inside telemetry that lost an update or part of one."""
        with self._lock:
            self._snapshot = replace(self._snapshot, record_errors=self._snapshot.record_errors + 1)


def _next_state(before: TamiyoState, payload: PPOUpdatePayload) -> tuple[TamiyoState, int]:
    update = before.updates + 1
    readings: dict[str, HeadReading] = {}
    errors = 0
    for head in before.heads:
        measured = payload.heads.get(head.name, NOT_MEASURED)
        checked = _check(head, measured)
        errors += checked.count(None) - measured.count(None)
        readings[head.name] = _next_reading(head, before.readings[head.name], checked, update)
    state = TamiyoState(
        heads=before.heads,
        readings=MappingProxyType(readings),
        updates=update,
        entropy=_aggregate(readings, update),
        entropy_coefficient=_kept(payload.entropy_coefficient, before.entropy_coefficient),
        kl_divergence=_finite(payload.kl_divergence),
        clipped_share=_finite(payload.clipped_share),
        gradient_norm=_finite(payload.gradient_norm),
        policy_loss=_finite(payload.policy_loss),
        value_loss=_finite(payload.value_loss),
        explained_variance=_finite(payload.explained_variance),
    )
    return state, errors


def _check(head: Head, measured: HeadMeasurement) -> HeadMeasurement:
    if measured is NOT_MEASURED:
        return measured
    entropy, choice_entropy, choice_share, open_share = measured
    return HeadMeasurement(
        None if entropy is None else within(entropy, head.max_entropy),
        None if choice_entropy is None else within(choice_entropy, 1.0),
        None if choice_share is None else within(choice_share, 1.0),
        None if open_share is None else within(open_share, 1.0),
    )


def _next_reading(head: Head, last: HeadReading, measured: HeadMeasurement, update: int) -> HeadReading:
    entropy, choice_entropy, choice_share, open_share = measured
    if entropy is None and choice_entropy is None and choice_share is None and open_share is None:
        return last
    normalized = last.normalized if entropy is None else head.normalize(entropy)
    if choice_share == 0.0:
        choice_entropy = None
    effective = choice_entropy
    if effective is None and choice_share is None and entropy is not None:
        effective = normalized
    return HeadReading(
        entropy=last.entropy if entropy is None else entropy,
        normalized=normalized,
        choice_entropy=choice_entropy,
        choice_share=choice_share,
        open_share=open_share,
        effective=effective,
        measured_update=last.measured_update if entropy is None else update,
    )


def _aggregate(readings: dict[str, HeadReading], update: int) -> float | None:
    if any(reading.measured_update != update for reading in readings.values()):
        return None
    return math.fsum(reading.entropy for reading in readings.values())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _kept(value: float | None, last: float | None) -> float | None:
    return last if value is None else value
