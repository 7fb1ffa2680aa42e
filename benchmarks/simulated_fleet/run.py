"""One simulated run: a real exporter with numbers like those of a policy in training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from random import Random
from typing import Any

from rl_exporter import (
    HeadMeasurement,
    HeadRecorder,
    ListenAddress,
    MetricsServer,
    PPOUpdatePayload,
    RunInfo,
    RunState,
    SanctumAggregator,
)
from rl_exporter.health import SUSTAINED_UPDATES
from rl_training.action_space import HEADS

PERIODS = (2.0, 300.0)
"""Shortest and longest update period in seconds. A run draws its own log-uniformly."""

SICK = 0.03
"""Share of runs with a collapsed head, and also of runs with a starved one."""

LEARNED = 0.5
"""Share of runs whose heads have all settled, which is how a run ends that has learned its task."""

_ENDS = {RunState.COMPLETED: 0.90, RunState.INTERRUPTED: 0.06, RunState.FAILED: 0.03, None: 0.01}
"""Share of runs by how they end. None: killed."""

_LINGER_SECONDS = 60.0


class Kind(StrEnum):
    """How far a run is, or what is wrong with it."""

    LEARNING = "learning"
    LEARNED = "learned"
    COLLAPSED = "collapsed"
    STARVED = "starved"

    @property
    def ratios(self) -> tuple[float, float]:
        """Lowest and highest effective ratio of its heads."""
        return (0.03, 0.2) if self is Kind.LEARNED else (0.55, 0.99)


def update_period(random: Random) -> float:
    """Seconds between two updates of a run."""
    return math.exp(random.uniform(*map(math.log, PERIODS)))


def payloads(random: Random, period: float, kind: Kind) -> Iterator[PPOUpdatePayload]:
    """Yield the payloads of one update after another, with every value that a run can report."""
    low, high = kind.ratios
    ratios = {name: random.uniform(low, high) for name in HEADS.names}
    while True:
        for name, ratio in ratios.items():
            ratios[name] = min(high, max(low, ratio + random.gauss(0, 0.01)))
        if kind is Kind.COLLAPSED:
            ratios["blueprint"] = 0.1
        yield PPOUpdatePayload(
            heads={name: _measured(random, name, ratios[name], kind) for name in HEADS.names},
            environment_steps=512,
            episodes=4,
            episode_return=random.gauss(10, 1),
            entropy_coefficient=0.02,
            kl_divergence=random.uniform(0, 0.02),
            clipped_share=random.uniform(0, 0.2),
            gradient_norm=random.uniform(0.1, 1),
            policy_loss=random.gauss(0, 0.01),
            value_loss=random.uniform(0, 1),
            explained_variance=random.uniform(0.2, 0.9),
            rollout_duration=0.7 * period,
            update_duration=0.3 * period,
        )


def _measured(random: Random, name: str, ratio: float, kind: Kind) -> HeadMeasurement:
    share = 0.0 if kind is Kind.STARVED and name == "slot" else random.uniform(0.1, 0.9)
    collapsed = kind is Kind.COLLAPSED and name == "blueprint"
    return HeadMeasurement(
        entropy=0.9 * ratio * HEADS.named(name).max_entropy,
        choice_entropy=ratio if share else None,
        choice_share=share,
        open_share=random.uniform(0.9, 1.0),
        gradient_norm=random.uniform(0.05, 0.5),
        importance_ratio_max=random.uniform(1.0, 1.4),
        **(_of_decisions(random, HEADS.named(name).choices, blind=collapsed) if share else {}),
    )


def _of_decisions(random: Random, choices: int, *, blind: bool) -> dict[str, Any]:
    """What an update measures of a head that decided something."""
    leading = random.uniform(1.5, 3) / (choices + 2)
    return {
        "state_information": 0.0 if blind else random.uniform(0.1, 0.6),
        "action_shares": (leading, *[(1 - leading) / (choices - 1)] * (choices - 1)),
        "advantage_margin": random.gauss(0, 0.1),
        "advantage_margin_t": random.gauss(0, 1),
    }


class SimulatedRun:
    """A run that serves /metrics on a free port of 127.0.0.1 until it ends or is killed."""

    def __init__(self, run_id: str, random: Random) -> None:
        self.run_id = run_id
        self.period = update_period(random)
        kind = random.choices(list(Kind), (1 - LEARNED - 2 * SICK, LEARNED, SICK, SICK))[0]
        self._payloads = payloads(random, self.period, kind)
        self._ending = random.choices(list(_ENDS), list(_ENDS.values()))[0]
        info = RunInfo(run_id, "fleet", "ppo", "simulated", str(random.randrange(10)), "cpu")
        aggregator = SanctumAggregator(HEADS, info)
        self._server = MetricsServer(aggregator.snapshot, ListenAddress(port=0))
        self._server.start()
        self._recorder = HeadRecorder(aggregator, self._server, linger=_LINGER_SECONDS)
        if kind is Kind.LEARNED:
            # Else the heads of slow runs would settle after the measurement.
            for _ in range(SUSTAINED_UPDATES):
                self.update()

    @property
    def address(self) -> str:
        """Its listen address, HOST:PORT."""
        return str(self._server.address)

    def update(self) -> None:
        """Record one more update."""
        self._recorder.handler.handle_ppo_update(next(self._payloads))

    def end(self) -> None:
        """End in this run's way. A clean end waits until a scrape has seen the final state."""
        if self._ending is None:
            self._server.stop()
        else:
            self._recorder.close(self._ending)
