"""What one minibatch says of the heads, evaluated from logits and masks; nothing of it holds the graph."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.operations import StepMasks
from rl_exporter.integrations.meter.softmax import MaskBits, Softmax, wide_logits

MASKED = 1e4
"""An action whose logit lies this far below the largest of its head was not valid there.

Policies that mask their own logits write -inf, -1e8 or the like. A head that collapsed as far as float32 can
tell is 104 below: no probability shows a mask, not even one that is 0.
"""


class Steps(NamedTuple):
    """S steps of H heads. A step of padding counts nowhere."""

    entropy: Tensor
    """(S, H) nats under the step mask; NaN where the step does not count, or a logit is not finite."""
    decided: Tensor
    """(S, H) nats under the decision mask."""
    log_valid: Tensor
    """(S, H) ln of the valid choices under the decision mask."""
    choice: Tensor
    """(S, H) bool, the head decided something."""
    open: Tensor
    """(S, H) bool"""
    nan: Tensor
    """(S, H) bool, a logit of a valid action is NaN."""
    inf: Tensor
    """(S, H) bool, one is infinite, and none NaN."""
    empty: Tensor
    """(S, H) bool, the mask allows no action."""
    counted: Tensor
    """(S,) bool, the step is none of padding."""
    masked: Tensor
    """(S,) number of actions that were not valid."""

    @property
    def choosing(self) -> Tensor:
        """(S, H) bool, the head decided something, and it is known what."""
        return self.choice & ~self.decided.isnan()


class Distributions(NamedTuple):
    """What the heads did at their choice steps; 0 elsewhere."""

    probabilities: Tensor
    """(Σn, S) under the decision masks."""
    deciding: Tensor
    """(Σn, S) 1 where an action was valid, in the same dtype."""


def inferred_masks(logits: Tensor, layout: HeadLayout) -> Tensor:
    """The masks (S, Σn) that logits or log-probabilities show, see ``MASKED``. A NaN hides none."""
    columns = wide_logits(logits).T
    lowest = layout.maxima(columns.nan_to_num(-torch.inf, torch.inf, -torch.inf)) - MASKED
    return ~(columns < layout.spread(lowest)).T


def evaluate(
    logits: Tensor, masks: StepMasks, counted: Tensor | None, layout: HeadLayout
) -> tuple[Steps, Distributions]:
    """Distributions of S steps from logits (S, Σn); ``counted`` (S,) is False for padding."""
    columns = wide_logits(logits).T.contiguous()
    decision = masks.decision.T.contiguous()
    valid = layout.sums(decision.to(columns.dtype))
    present = torch.ones_like(valid[0], dtype=torch.bool) if counted is None else counted
    usable = present & (valid > 0)
    softmax, decided = _softmax(columns, decision, layout)
    entropy, peak = decided, softmax.peak
    if masks.step is not masks.decision:
        under_step, entropy = _softmax(columns, masks.step.T.contiguous(), layout)
        peak = under_step.peak
    nan = peak.isnan() & usable
    steps = Steps(
        entropy=torch.where(usable, entropy, torch.nan).T,
        decided=decided.T,
        log_valid=valid.log().T,
        choice=masks.choice & usable.T,
        open=masks.open & usable.T,
        nan=nan.T,
        inf=(entropy.isnan() & usable & ~nan).T,
        empty=(present & (valid == 0)).T,
        counted=present,
        masked=(~decision).sum(0) * present,
    )
    deciding = decision & layout.spread(steps.choosing.T)
    kept = torch.where(deciding, softmax.probabilities(), 0.0)
    return steps, Distributions(kept, deciding.to(kept.dtype))


def _softmax(columns: Tensor, valid: Tensor, layout: HeadLayout) -> tuple[Softmax, Tensor]:
    """Distributions of all heads under a mask (Σn, S), and their entropies (H, S)."""
    softmax = Softmax(MaskBits.of(valid, columns.dtype).scores(columns), layout)
    return softmax, softmax.entropy()
