"""An entropy controller for Stable-Baselines3, which has one coefficient for all heads of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_exporter.heads import Heads
from rl_exporter.intervention.controller import EntropyController, Mode
from rl_exporter.log import exporter_log
from rl_exporter.payload import HeadMeasurement
from rl_exporter.snapshot import SanctumSnapshot

_LOG = exporter_log()


class SharedCoefficient:
    """Gives a model's ``ent_coef`` what the head that needs most needs: every head then gets it.

    Only while the model learns from a rollout. In between it has its own coefficient, so that what is saved or
    scheduled there is the user's.

    Raises ValueError for targets that are impossible.
    """

    def __init__(self, heads: Heads, targets: Mapping[str, float], mode: Mode) -> None:
        self._controller = EntropyController(heads, targets, mode=mode)
        self._base = 0.0
        self._raised: OnPolicyAlgorithm | None = None
        self._said = len(heads) == 1

    def begin(self) -> None:
        """A training begins; one that an exception ended may have left the coefficient raised."""
        self.give_back()
        if not self._said:
            self._said = True
            _LOG.info(
                "Stable-Baselines3 has one ent_coef for all heads: what a controller adds for one, all get"
            )

    def raise_for_update(self, model: OnPolicyAlgorithm) -> None:
        """Take the coefficient that the model has as the base, and add what is added at present."""
        self._base, self._raised = float(model.ent_coef), model
        model.ent_coef = self._base + self._added

    def give_back(self) -> None:
        """Leave the model with the coefficient that it had."""
        if self._raised is not None:
            self._raised.ent_coef = self._base
            self._raised = None

    @property
    def base(self) -> float:
        """The coefficient without what is added."""
        return self._base

    def adjust(self, snapshot: SanctumSnapshot) -> None:
        """Find what the next update adds, from the run after the last one."""
        self._controller.added(snapshot)

    def described(self, measured: Mapping[str, HeadMeasurement]) -> dict[str, HeadMeasurement]:
        """The measurements of an update, with target, coefficient and interventions of each controlled head."""
        heads = self._controller.described(measured, self._base)
        applied = self._base + self._added
        for name in self._controller.controls:
            heads[name] = replace(heads[name], entropy_coefficient_applied=applied)
        return heads

    @property
    def _added(self) -> float:
        return max(self._controller.adding.values())
