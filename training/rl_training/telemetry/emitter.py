"""Turns an update's result into a payload for the exporter and other handlers. Nothing here stops training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

from rl_exporter.decisions import Information, Margin
from rl_exporter.numbers import DurationNumbers, PolicyNumbers, TrainingNumbers, attributes
from rl_exporter.payload import HeadMeasurement, PPOUpdateHandler, PPOUpdatePayload
from rl_training.telemetry.result import NonfiniteCounts, UpdateResult

_LOG = logging.getLogger("rl_training")


@dataclass(frozen=True, kw_only=True)
class Progress(TrainingNumbers, DurationNumbers):
    """What the training loop knows of an update beside its result; durations in seconds."""

    entropy_coefficient: float | None = None


NO_PROGRESS = Progress()


def build_payload(result: UpdateResult, progress: Progress = NO_PROGRESS) -> PPOUpdatePayload:
    """Average every head over the epochs; a head without a whole epoch was not measured.

    Such a head has no shares either, so that an aborted update never reads as one without a choice.
    """
    numbers: dict[str, Any] = {
        **{number.name: getattr(result, number.name) for number in attributes(PolicyNumbers)},
        **{field.name: getattr(progress, field.name) for field in fields(progress)},
    }
    heads = {name: _measurement(result, name) for name in result.head_entropy_history}
    return PPOUpdatePayload(heads=heads, **numbers)


def _measurement(result: UpdateResult, name: str) -> HeadMeasurement:
    nonfinite = result.head_nonfinite.get(name, NonfiniteCounts())
    history = result.head_entropy_history[name]
    if not history:
        return HeadMeasurement(**nonfinite._asdict())
    choice = result.head_choice_entropy_history[name]
    information = result.head_state_information.get(name, Information())
    paid = result.head_advantage_margin.get(name, Margin())
    return HeadMeasurement(
        entropy=fmean(history),
        choice_entropy=fmean(choice) if choice else None,
        choice_share=result.choice_share[name],
        open_share=result.open_share[name],
        gradient_norm=result.head_gradient_norm.get(name),
        importance_ratio_max=result.head_importance_ratio_max.get(name),
        state_information=information.nats,
        state_information_ratio=information.ratio,
        advantage_margin=paid.difference,
        advantage_margin_t=paid.t,
        action_shares=result.head_action_shares.get(name),
        **nonfinite._asdict(),
    )


class Emitter:
    """Hands payloads to handlers. It counts errors in telemetry and logs the first; training continues."""

    def __init__(self, handlers: Sequence[PPOUpdateHandler], count_error: Callable[[], None]) -> None:
        self._handlers = handlers
        self._count_error = count_error
        self._logged = False

    def emit_ppo_update(self, result: UpdateResult, progress: Progress = NO_PROGRESS) -> None:
        """Hand the payload of one update to every handler; one that raises does not keep it from the others."""
        # Telemetry of the update failed; the payload still tells the exporter that an update took place.
        if result.error is not None:
            self._failed(result.error)
        try:
            payload = build_payload(result, progress)
        except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
            self._failed(error)
            return
        for handler in self._handlers:
            try:
                handler.handle_ppo_update(payload)
            except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._count_error()
        if not self._logged:
            self._logged = True
            _LOG.error("telemetry failed; training goes on, further errors are only counted", exc_info=error)
