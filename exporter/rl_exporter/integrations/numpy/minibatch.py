"""What one minibatch says of the heads, evaluated from logits and masks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rl_exporter.integrations.meter.limits import MASKED
from rl_exporter.integrations.meter.segments import BoolArray
from rl_exporter.integrations.meter.sums import FloatArray
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.operations import StepMasks


class Steps(NamedTuple):
    """S steps of H heads. A step of padding counts nowhere."""

    entropy: FloatArray
    """(S, H) nats under the step mask; NaN where the step does not count, or a logit is not finite."""
    decided: FloatArray
    """(S, H) nats under the decision mask."""
    log_valid: FloatArray
    """(S, H) ln of the valid choices under the decision mask."""
    choice: BoolArray
    """(S, H) the head decided something."""
    open: BoolArray
    """(S, H)"""
    nan: BoolArray
    """(S, H) a logit of a valid action is NaN."""
    inf: BoolArray
    """(S, H) one is infinite, and none NaN."""
    empty: BoolArray
    """(S, H) a mask allows no action."""
    counted: BoolArray
    """(S,) the step is none of padding."""
    masked: FloatArray
    """(S,) number of actions that were not valid."""

    @property
    def choosing(self) -> BoolArray:
        """(S, H) the head decided something, and it is known what."""
        return self.choice & ~np.isnan(self.decided)


class ChoiceSteps(NamedTuple):
    """S steps. At a step at which a head decided nothing, its numbers are all 0."""

    probabilities: FloatArray
    """(S, Σn) under the decision masks."""
    valid: FloatArray
    """(S, Σn) 1 where an action was valid at a choice step of its head."""
    entropy: FloatArray
    """(S, H) nats"""


def inferred_masks(logits: FloatArray, layout: HeadLayout) -> BoolArray:
    """The masks (S, Σn) that logits or log-probabilities show, see ``MASKED``. A NaN hides none."""
    largest = layout.maxima(np.where(np.isnan(logits), -np.inf, logits))
    shown: BoolArray = ~(logits < layout.spread(largest - MASKED))
    return shown


def evaluate(
    logits: FloatArray, masks: StepMasks, counted: BoolArray, layout: HeadLayout
) -> tuple[Steps, ChoiceSteps]:
    """Distributions of S steps from logits (S, Σn); ``counted`` (S,) is False for padding."""
    valid, present = layout.counts(masks.decision), counted[:, None]
    usable = present & (valid > 0) & (layout.counts(masks.step) > 0)
    decided = _Softmax(logits, masks.decision, layout)
    under_step = decided if masks.step is masks.decision else _Softmax(logits, masks.step, layout)
    nan = np.isnan(under_step.peak) & usable
    steps = Steps(
        entropy=np.where(usable, under_step.entropy, np.nan),
        decided=decided.entropy,
        log_valid=np.log(valid),
        choice=masks.choice & usable,
        open=masks.open & usable,
        nan=nan,
        inf=np.isnan(under_step.entropy) & usable & ~nan,
        empty=present & ~usable,
        counted=counted,
        masked=np.where(counted, layout.total - masks.decision.sum(1), 0).astype(np.float64),
    )
    deciding = masks.decision & layout.spread(steps.choosing)
    probabilities = np.where(deciding, decided.probabilities, 0.0)
    entropy = np.where(steps.choosing, steps.decided, 0.0)
    return steps, ChoiceSteps(probabilities, deciding.astype(np.float64), entropy)


class _Softmax:
    """Distributions of all heads under a mask (S, Σn): ``probabilities``, ``entropy`` and ``peak`` (S, H)."""

    def __init__(self, logits: FloatArray, mask: BoolArray, layout: HeadLayout) -> None:
        scores = np.where(mask, logits, -np.inf)
        self.peak = layout.maxima(scores)
        """(S, H) largest logit of a valid action, NaN where there is one."""
        centered = scores - layout.spread(self.peak)
        # A NaN at a valid action stays; what is not valid has no part in any sum.
        weights = np.where(mask, np.exp(centered), 0.0)
        total = layout.sums(weights)
        self.probabilities = weights / layout.spread(total)
        self.entropy: FloatArray = np.log(total) - layout.sums(np.where(mask, centered * weights, 0.0)) / total
