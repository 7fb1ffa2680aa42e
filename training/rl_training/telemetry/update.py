"""Telemetry of one update: records of its optimiser steps, kept on the device and reduced once at its end."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_training.policy.distributions import HeadLayout
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks
from rl_training.telemetry.measurement import MinibatchTelemetry, OptimizerStep, measure
from rl_training.telemetry.result import UpdateResult, divide
from rl_training.telemetry.sums import Extent, UpdateSums, combine, failed_sums


class UpdateTelemetry:
    """Keeps what the minibatches of one update computed; ``result`` reduces all of it together.

    An aborted epoch did not visit every step, so it enters no mean; telemetry only counts what was not finite
    in it. Losses and gradients are those of all ranks already; logits, entropies and importance ratios are of
    this rank's environments.
    """

    def __init__(
        self, layout: HeadLayout, rollout: Rollout, clip: float, ranks: Ranks = SINGLE_PROCESS, *, enabled: bool
    ) -> None:
        self._ranks = ranks
        self._layout = layout
        self._rollout = rollout
        self._clip = clip
        self._enabled = enabled
        self._optimizer_steps: list[OptimizerStep] = []
        self._epoch_ends: list[int] = []

    def add(
        self, minibatch: MinibatchTelemetry, gradient_norm: Tensor, head_gradient_norms: Tensor | None
    ) -> None:
        """Keep one minibatch, the norm of its whole gradient, and the norms of the heads (parameters, H)."""
        if self._enabled and head_gradient_norms is not None:
            self._optimizer_steps.append(OptimizerStep(minibatch, gradient_norm, head_gradient_norms))

    def end_epoch(self) -> None:
        """Mark the end of an epoch that visited every step once."""
        self._epoch_ends.append(len(self._optimizer_steps))

    def result(self, explained_variance: Tensor, *, nonfinite: bool) -> UpdateResult:
        """What the update measured, on all ranks. An error in here is part of the result, not raised.

        ``nonfinite``: PPO skipped an optimiser step. Raises RankLostError.
        """
        if not self._enabled or not self._optimizer_steps:
            return UpdateResult(nonfinite=nonfinite)
        extent = Extent(len(self._epoch_ends), len(self._layout.sizes), self._layout.total)
        failure: Exception | None = None
        try:
            own = self._measure(explained_variance)
        except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
            failure, own = error, failed_sums(extent, explained_variance.device)
        # Outside the try: the other ranks wait for this row whatever failed here, and a lost rank ends the run.
        rows = self._ranks.gather(own.pack())
        if failure is not None:
            return UpdateResult(nonfinite=nonfinite, error=failure)
        try:
            return divide(combine(rows, extent), self._layout.names, self._rollout, nonfinite=nonfinite)
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

    def _measure(self, explained_variance: Tensor) -> UpdateSums:
        return measure(
            self._optimizer_steps, self._epoch_ends, self._rollout, self._layout, self._clip, explained_variance
        )
