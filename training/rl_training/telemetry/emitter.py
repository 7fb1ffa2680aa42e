"""Turns an update's result into a payload for the exporter and other handlers. Nothing here stops training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from rl_exporter.numbers import DurationNumbers, PolicyNumbers, TrainingNumbers, attributes
from rl_exporter.payload import PPOUpdateHandler, PPOUpdatePayload
from rl_training.telemetry.result import UpdateResult

_LOG = logging.getLogger("rl_training")


@dataclass(frozen=True, kw_only=True)
class Progress(TrainingNumbers, DurationNumbers):
    """What the training loop knows of an update beside its result; durations in seconds."""

    entropy_coefficient: float | None = None
    environment_metrics: Mapping[str, float] | None = None


NO_PROGRESS = Progress()

_POLICY = tuple(number.name for number in attributes(PolicyNumbers))
_PROGRESS = tuple(field.name for field in fields(Progress))
_POLICY_OF: Callable[[UpdateResult], tuple[Any, ...]] = attrgetter(*_POLICY)
_PROGRESS_OF: Callable[[Progress], tuple[Any, ...]] = attrgetter(*_PROGRESS)


def build_payload(result: UpdateResult, progress: Progress = NO_PROGRESS) -> PPOUpdatePayload:
    """Average every head over the epochs; see ``HeadResults.measurement``."""
    numbers = dict(zip(_POLICY, _POLICY_OF(result), strict=True))
    # The entropy coefficient is one of the policy, but only the loop knows it.
    numbers.update(zip(_PROGRESS, _PROGRESS_OF(progress), strict=True))
    heads = {name: result.measurement(name) for name in result.head_entropy_history}
    return PPOUpdatePayload(heads=heads, **numbers)


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
