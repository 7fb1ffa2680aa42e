"""From an update's result to payloads for whoever listens. Nothing here can stop training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from statistics import fmean

from rl_exporter.payload import HeadMeasurement, PPOUpdateHandler, PPOUpdatePayload
from rl_training.telemetry import UpdateResult

_LOG = logging.getLogger("rl_training")


def build_payload(
    result: UpdateResult,
    *,
    environment_steps: int = 0,
    episodes: int = 0,
    episode_return: float | None = None,
    entropy_coefficient: float | None = None,
) -> PPOUpdatePayload:
    """Average every head over the epochs; a head without a whole epoch was not measured.

    The choice share stays absent with it, so that an aborted update never reads as one without choice.
    """
    heads: dict[str, HeadMeasurement] = {}
    for name, history in result.head_entropy_history.items():
        if history:
            choice = result.head_choice_entropy_history[name]
            heads[name] = HeadMeasurement(
                fmean(history),
                fmean(choice) if choice else None,
                result.choice_share[name],
                result.open_share[name],
            )
    return PPOUpdatePayload(
        heads=heads,
        environment_steps=environment_steps,
        episodes=episodes,
        episode_return=episode_return,
        entropy_coefficient=entropy_coefficient,
        kl_divergence=result.kl_divergence,
        clipped_share=result.clipped_share,
        gradient_norm=result.gradient_norm,
        policy_loss=result.policy_loss,
        value_loss=result.value_loss,
        explained_variance=result.explained_variance,
    )


class Emitter:
    """Hands payloads to handlers. An error in one is counted, logged once, and training goes on."""

    def __init__(self, handlers: Sequence[PPOUpdateHandler], count_error: Callable[[], None]) -> None:
        self._handlers = handlers
        self._count_error = count_error
        self._logged = False

    def emit_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Hand one update's payload to every handler."""
        for handler in self._handlers:
            try:
                handler.handle_ppo_update(payload)
            except Exception:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self._count_error()
                if not self._logged:
                    self._logged = True
                    _LOG.exception("telemetry failed; training goes on, further errors are only counted")
