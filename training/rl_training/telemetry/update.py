"""Telemetry of one update: records of its optimiser steps, kept on the device and reduced once at its end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.layout import Columns, HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.meter.packing import failed_sums, on_host, pack
from rl_exporter.integrations.meter.preference import (
    ChoiceSteps,
    fit_preferences,
    no_choice_steps,
)
from rl_exporter.integrations.meter.sums import Extent, Preferences, UpdateSums, combine
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks
from rl_training.telemetry.measurement import (
    MinibatchTelemetry,
    OptimizerStep,
    RunSums,
    choice_steps,
    measure,
)
from rl_training.telemetry.result import UpdateResult, divide


class UpdateTelemetry:
    """Keeps what the minibatches of one update computed; ``result`` reduces all of it together.

    An aborted epoch did not visit every step, so it enters no mean; telemetry only counts what was not finite
    in it. Losses and gradients are those of all ranks already; logits, entropies and importance ratios are of
    this rank's environments. ``advantages`` (T, N) are normalized; ``former`` holds the sums of past updates.
    """

    def __init__(
        self,
        layout: HeadLayout,
        rollout: Rollout,
        advantages: Tensor,
        clip: float,
        ranks: Ranks = SINGLE_PROCESS,
        *,
        former: AdvantageSums | None = None,
        enabled: bool,
    ) -> None:
        self._ranks = ranks
        self._layout = layout
        self._rollout = rollout
        self._advantages = advantages
        self._former = AdvantageSums.none(layout.total) if former is None else former
        self._clip = clip
        self._enabled = enabled
        self._optimizer_steps: list[OptimizerStep] = []
        self._epoch_ends: list[int] = []
        self._epoch: list[tuple[MinibatchTelemetry, Columns]] = []
        self._last_epoch: list[tuple[MinibatchTelemetry, Columns]] = []
        self._preferences: Preferences[Tensor] | None = None

    def add(self, step: OptimizerStep, columns: Columns) -> None:
        """Keep what one minibatch computed, and the distributions of its steps."""
        if self._enabled:
            self._optimizer_steps.append(step)
            self._epoch.append((step.minibatch, columns))

    def end_epoch(self) -> None:
        """Mark the end of an epoch that visited every step once."""
        self._epoch_ends.append(len(self._optimizer_steps))
        # Only the distributions of the last whole epoch are used; all of them would take twice the memory.
        self._last_epoch, self._epoch = self._epoch, []

    def result(
        self, explained_variance: Tensor, kl_sum_after: Callable[[], Tensor], *, nonfinite: bool
    ) -> UpdateResult:
        """What the update measured, on all ranks. An error in here is part of the result, not raised.

        ``kl_sum_after`` compares the policy after the update with the one that acted, a sum over this rank's
        steps. ``nonfinite``: PPO skipped an optimiser step. Raises RankLostError.
        """
        if not self._enabled or not self._optimizer_steps:
            return UpdateResult(nonfinite=nonfinite)
        extent = Extent(len(self._epoch_ends), len(self._layout.sizes), self._layout.total)
        attempt, device = Attempt(), explained_variance.device
        self._preferences = fit_preferences(self._choice_steps, self._layout, self._ranks, attempt, device)
        row = attempt.part(
            lambda: pack(self._measure(explained_variance, kl_sum_after())),
            lambda: pack(failed_sums(extent, device)),
        )
        # Outside any try: the other ranks wait for this row whatever failed here, and a lost rank ends the run.
        rows = self._ranks.gather(row)
        if attempt.failure is not None:
            return UpdateResult(nonfinite=nonfinite, error=attempt.failure)
        try:
            sums = combine(on_host(rows), extent)
            return divide(sums, self._layout, self._rollout, self._former, nonfinite=nonfinite)
        except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
            return UpdateResult(nonfinite=nonfinite, error=error)

    def epoch_logits(self) -> Tensor:
        """The logits as the loss saw them, (whole epochs, T, N, Σn), environments in their own order."""
        logits = []
        for first, last in zip((0, *self._epoch_ends), self._epoch_ends, strict=False):
            minibatches = [step.minibatch for step in self._optimizer_steps[first:last]]
            order = torch.cat([minibatch.environments for minibatch in minibatches])
            logits.append(torch.cat([minibatch.logits for minibatch in minibatches], 1)[:, order.argsort()])
        return torch.stack(logits) if logits else torch.empty(0)

    def _choice_steps(self) -> ChoiceSteps:
        if not self._epoch_ends:
            return no_choice_steps(self._layout)
        return choice_steps(self._last_epoch, self._layout)

    def _measure(self, explained_variance: Tensor, kl_sum: Tensor) -> UpdateSums[Tensor]:
        assert self._preferences is not None, "an attempt that failed measures nothing more"
        return measure(
            self._optimizer_steps,
            self._epoch_ends,
            self._rollout,
            self._layout,
            self._clip,
            RunSums(explained_variance, kl_sum),
            self._preferences,
            advantage_sums(self._rollout.choice, self._rollout.actions, self._advantages, self._layout),
        )
