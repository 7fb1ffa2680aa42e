"""The training loop: rollout, update, telemetry, until a limit or a request to stop ends it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from rl_exporter.snapshot import RunState
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.telemetry.emitter import Emitter, Progress

NONFINITE_LIMIT = 10
"""Updates in a row with a non-finite loss or gradient after which a run counts as failed."""

_LOG = logging.getLogger("rl_training")


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run is complete; None is unlimited. Every environment must finish ``episodes``."""

    updates: int | None
    episodes: int | None


def train(
    agent: PPOAgent,
    collector: RolloutCollector,
    emitter: Emitter,
    limits: Limits,
    should_stop: Callable[[], bool],
    *,
    updates: int = 0,
    after_update: Callable[[], None] = lambda: None,
) -> RunState:
    """Train until a limit (completed), a request to stop (interrupted), or non-finite losses (failed).

    A request to stop on any rank ends all ranks before their next update. ``updates`` counts those of the run
    so far, and limits are totals. ``after_update`` runs once telemetry has recorded an update.
    Raises RankLostError, and whatever the environment raises.
    """
    # A resumed run may have reached its limits already.
    nonfinite = 0
    if _reached(limits, updates, collector):
        return RunState.COMPLETED
    while True:
        agent.anneal(_done(limits, updates, collector))
        began = time.perf_counter()
        rollout = collector.collect(agent.config.rollout_steps, should_stop)
        if rollout is None:
            return RunState.INTERRUPTED
        collected = time.perf_counter()
        result = agent._update_network(rollout)  # noqa: SLF001 - the name is a contract of the specification
        emitter.emit_ppo_update(
            result,
            Progress(
                environment_steps=rollout.steps,
                episodes=rollout.episodes,
                episode_return=collector.episode_return,
                episode_length=collector.finished.episode_length,
                environment_metrics=collector.finished.metrics,
                entropy_coefficient=agent.entropy_coefficient,
                learning_rate=agent.learning_rate,
                rollout_duration=collected - began,
                update_duration=time.perf_counter() - collected,
            ),
        )
        after_update()
        updates += 1
        # One bad batch passes; parameters that are beyond repair give non-finite losses in every update.
        nonfinite = nonfinite + 1 if result.nonfinite else 0
        if result.nonfinite:
            _LOG.warning(
                "update %d: loss or gradient not finite; skipped (%d in a row, %d end the run)",
                updates,
                nonfinite,
                NONFINITE_LIMIT,
            )
        if nonfinite >= NONFINITE_LIMIT:
            return RunState.FAILED
        if _reached(limits, updates, collector):
            return RunState.COMPLETED


def _reached(limits: Limits, updates: int, collector: RolloutCollector) -> bool:
    return _done(limits, updates, collector) >= 1


def _done(limits: Limits, updates: int, collector: RolloutCollector) -> float:
    """Share of the run that is over, by the limit that will end it first; 0 without a limit."""
    by_updates = updates / limits.updates if limits.updates is not None else 0.0
    if limits.episodes is None:
        return by_updates
    return max(by_updates, int(collector.episodes.min()) / limits.episodes)
