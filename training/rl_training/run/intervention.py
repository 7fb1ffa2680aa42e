"""``--entropy-controller``: what is added to the entropy coefficients of the agent between two updates."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from rl_exporter.aggregator import SanctumAggregator
from rl_exporter.intervention.controller import EntropyController
from rl_exporter.payload import PPOUpdatePayload
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import BadInputError, PPOConfig
from rl_training.run.checkpoint import Checkpoint

_LOG = logging.getLogger("rl_training")


class Intervention:
    """Takes each update before the exporter does, and gives the agent its coefficients after it.

    On every rank ``adjust`` has to follow every update; rank 0, whose aggregator sees the updates, decides.
    Whatever fails in here is logged once; the coefficients then stay as they are, and training continues.
    """

    def __init__(self, controller: EntropyController, agent: PPOAgent, aggregator: SanctumAggregator) -> None:
        self.controller = controller
        self._agent = agent
        self._aggregator = aggregator
        self._failed = False

    def handle_ppo_update(self, payload: PPOUpdatePayload) -> None:
        """Hand the update on with the coefficients that it was made with."""
        heads = self.controller.described(payload.heads, payload.entropy_coefficient)
        self._aggregator.handle_ppo_update(replace(payload, heads=heads))

    def adjust(self) -> None:
        """Give the agent the coefficients of the next update. Raises RankLostError."""
        try:
            self.controller.added(self._aggregator.snapshot())
        except Exception:  # noqa: BLE001 - an error must neither end the run nor change a coefficient
            self._aggregator.count_record_error()
            if not self._failed:
                _LOG.exception(
                    "the entropy controller failed; its coefficients stay as they are, and the run goes on"
                )
            self._failed = True
        self.apply()

    def apply(self) -> None:
        """Give the agent what the controller adds at present. Raises RankLostError."""
        self._agent.add_entropy_coefficients(self.controller.adding)


def intervention_of(
    config: PPOConfig, agent: PPOAgent, aggregator: SanctumAggregator, resumed: Checkpoint | None
) -> Intervention | None:
    """What the options ask for; None where the controller is off. Raises BadInputError."""
    if config.entropy_controller == "off":
        if config.entropy_target:
            _LOG.warning("--entropy-target has no effect while --entropy-controller is off; give on or observe")
        return None
    if not config.entropy_target:
        raise BadInputError(
            f"--entropy-controller {config.entropy_controller} needs a target; give --entropy-target HEAD=R, "
            "such as blueprint=0.4"
        )
    try:
        controller = EntropyController(agent.heads, config.entropy_target, mode=config.entropy_controller)
    except ValueError as error:
        raise BadInputError(f"--entropy-target: {error}") from error
    if resumed is not None:
        try:
            controller.restore(_controls(resumed))
        except ValueError as error:
            raise BadInputError(f"--resume: the checkpoint holds {error}") from error
    return Intervention(controller, agent, aggregator)


def _controls(resumed: Checkpoint) -> dict[str, Any]:
    """The state of the controller. Former versions did not say whether it acted: the numbers of the run do."""
    readings = resumed.snapshot.tamiyo.readings
    observed = {
        name: {"acted": 0, "raised": 0, "released": 0}
        for name, state in resumed.controller.items()
        if isinstance(state, dict) and "acted" not in state
        if name in readings and readings[name].entropy_coefficient_proposed is not None
    }
    return {
        name: {**state, **observed[name]} if name in observed else state
        for name, state in resumed.controller.items()
    }
