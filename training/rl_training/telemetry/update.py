"""What an update measures of the policy: kept on the device, reduced once over all ranks, moved at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rl_training.policy.distributions import HeadLayout, MaskedCategorical
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks
from rl_training.telemetry.measurement import HeadSteps, epoch_sums, head_sums
from rl_training.telemetry.results import Reduction, UpdateResult, summarize


class MinibatchTelemetry(NamedTuple):
    """What one minibatch leaves behind for telemetry; nothing here carries a gradient."""

    environments: Tensor  # (B,)
    logits: Tensor  # (T, B, Σn)
    entropy: Tensor  # (T, B, H), nats, under the decision mask
    peak: Tensor  # (T, B, H), largest logit of the decision mask
    ratio: Tensor  # (T, B, H), importance ratio; 1 where the head had no choice
    kl_sum: Tensor
    policy_loss: Tensor
    value_loss: Tensor


class UpdateTelemetry:
    """Keeps what the minibatches of one update leave behind; ``result`` reduces all of it together.

    Reducing all epochs together costs a tenth of doing it per minibatch. An aborted epoch did not visit
    every step: it counts in no mean, only what was not finite in it is counted. Losses and gradients are those
    of all ranks already; logits, entropies and importance ratios are of this one's environments.
    """

    def __init__(
        self, layout: HeadLayout, rollout: Rollout, clip: float, ranks: Ranks = SINGLE_PROCESS, *, enabled: bool
    ) -> None:
        self._ranks = ranks
        self._layout = layout
        self._rollout = rollout
        self._clip = clip
        self._enabled = enabled
        self._batches: list[MinibatchTelemetry] = []
        self._norms: list[Tensor] = []
        self._head_norms: list[Tensor] = []
        self._epoch_ends: list[int] = []

    def add(self, batch: MinibatchTelemetry, gradient_norm: Tensor, head_gradient_norms: Tensor | None) -> None:
        """Add one minibatch, the norm of its whole gradient and those of the heads (parts, H)."""
        if self._enabled and head_gradient_norms is not None:
            self._batches.append(batch)
            self._norms.append(gradient_norm)
            self._head_norms.append(head_gradient_norms)

    def end_epoch(self) -> None:
        """The epoch has visited every step once."""
        self._epoch_ends.append(len(self._batches))

    def result(self, explained_variance: Tensor, *, nonfinite: bool) -> UpdateResult:
        """Move everything to the host at once. An error in here is part of the result, not raised.

        Raises RankLostError.
        """
        if not self._enabled or not self._batches:
            return UpdateResult(nonfinite=nonfinite)
        failure: Exception | None = None
        try:
            own = self._reduction()
        except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
            failure, own = error, self._nothing()
        # Outside: whatever went wrong here, the other ranks wait for this row, and a lost rank ends the run.
        rows = self._ranks.gather(own.row(failed=failure is not None))
        if failure is not None:
            return UpdateResult(nonfinite=nonfinite, error=failure)
        try:
            names = self._layout.names
            return summarize(own, rows, explained_variance, names, self._rollout, nonfinite=nonfinite)
        except Exception as error:  # noqa: BLE001 - the same
            return UpdateResult(nonfinite=nonfinite, error=error)

    def epoch_logits(self) -> Tensor:
        """The logits as the loss saw them, (whole epochs, T, N, Σn), environments in their own order."""
        logits = []
        for first, last in zip((0, *self._epoch_ends), self._epoch_ends, strict=False):
            batches = self._batches[first:last]
            order = torch.cat([batch.environments for batch in batches])
            logits.append(torch.cat([batch.logits for batch in batches], 1)[:, order.argsort()])
        return torch.stack(logits) if logits else torch.empty(0)

    def _nothing(self) -> Reduction:
        """A reduction of the same shape as that of the other ranks."""
        epochs, heads, parts = len(self._epoch_ends), len(self._layout.names), self._norms[0].new_zeros
        return Reduction(parts(epochs, 4 * heads + 1), parts(3, heads), parts(epochs, 5), parts(4, heads))

    def _reduction(self) -> Reduction:
        epochs = len(self._epoch_ends)
        whole = self._epoch_ends[-1] if epochs else 0
        return Reduction(
            *_reduce_steps(self._batches, whole, epochs, self._rollout, self._layout, self._clip),
            scalars=_reduce_scalars(self._batches[:whole], self._norms, epochs),
            gradients=_reduce_gradients(torch.stack(self._head_norms), whole),
        )


@torch.no_grad()
def _reduce_steps(
    batches: Sequence[MinibatchTelemetry],
    whole: int,
    epochs: int,
    rollout: Rollout,
    layout: HeadLayout,
    clip: float,
) -> tuple[Tensor, Tensor]:
    """``Reduction.epochs`` and ``.heads`` from all steps; the first ``whole`` batches make up whole epochs."""
    order = torch.cat([batch.environments for batch in batches])
    decided = torch.cat([batch.entropy for batch in batches], 1)
    if rollout.step_masks is rollout.decision_masks:
        entropy, peak = decided, torch.cat([batch.peak for batch in batches], 1)
    else:
        logits = torch.cat([batch.logits for batch in batches], 1)
        masks = rollout.step_masks.index_select(1, order)
        distribution = MaskedCategorical(logits, masks, layout, validate=False)
        entropy, peak = distribution.entropy, distribution.peak
    broken, nan = ~torch.isfinite(entropy), torch.isnan(peak)
    counts = [(broken & nan).sum((0, 1)), (broken & ~nan).sum((0, 1))]

    columns = sum(len(batch.environments) for batch in batches[:whole])
    order = order[:columns]
    choice = rollout.choice.index_select(1, order)
    log_valid = rollout.log_valid_choices.index_select(1, order)
    ratio = torch.cat([batch.ratio for batch in batches], 1)[:, :columns]
    outside = ((ratio < 1 - clip) | (ratio > 1 + clip)) & choice
    steps = HeadSteps(entropy[:, :columns], decided[:, :columns], log_valid, choice)
    sums = torch.cat([head_sums(steps, epochs), epoch_sums(outside.any(-1, keepdim=True), epochs)], 1)
    largest = torch.where(choice, ratio, 0.0).flatten(0, 1)
    counts.append(largest.amax(0) if epochs else largest.new_zeros(largest.shape[-1]))
    return sums, torch.stack([count.double() for count in counts])


def _reduce_scalars(batches: Sequence[MinibatchTelemetry], norms: Sequence[Tensor], epochs: int) -> Tensor:
    """``Reduction.scalars``, (epochs, 5)."""
    if not epochs:
        return norms[0].new_empty(0, 5)
    values = [
        torch.stack([batch.kl_sum for batch in batches]),
        torch.stack(list(norms[: len(batches)])),
        torch.stack([batch.policy_loss for batch in batches]),
        torch.stack([batch.value_loss for batch in batches]),
        torch.ones(len(batches), device=batches[0].value_loss.device),
    ]
    return torch.stack([value.double().reshape(epochs, -1).sum(1) for value in values], 1)


def _reduce_gradients(parts: Tensor, whole: int) -> Tensor:
    """``Reduction.gradients``, (4, H), from norms per optimiser step and part of a head, (S, parts, H)."""
    norms = torch.linalg.vector_norm(parts, dim=1).double()
    finite = torch.isfinite(norms)
    return torch.stack(
        [
            torch.isnan(norms).sum(0).double(),
            torch.isinf(norms).sum(0).double(),
            torch.where(finite, norms, 0.0)[:whole].sum(0),
            finite[:whole].sum(0).double(),
        ]
    )
