"""What a minibatch says of the heads, evaluated from logits and masks; steps come last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.limits import MASKED
from rl_exporter.integrations.meter.operations import StepMasks, masks_of_columns
from rl_exporter.integrations.meter.softmax import MaskBits, Softmax


class Minibatch(NamedTuple):
    """S steps as a loop gave them; None: it did not."""

    logits: Tensor
    """(Σn, S) in single or double precision, copied: a compiler, or the loop, may write over its own."""
    decision: Tensor | None
    """(Σn, S) bool, copied; None: what the logits show."""
    step: Tensor | None
    """(Σn, S) bool, the step masks where operations make them differ; so are the next two."""
    choice: Tensor | None
    """(H, S) bool"""
    open: Tensor | None
    """(H, S) bool"""
    consulted: Tensor | None
    """(H, S) bool, the sampled operation uses the head."""
    counted: Tensor | None
    """(S,) bool, the step is none of padding."""
    log_ratio: Tensor | None
    """(H, S), or (1, S) of all heads together: logarithms of importance ratios."""
    actions: Tensor | None
    """(H, S), copied; so are the advantages."""
    advantages: Tensor | None
    """(S,) normalized"""

    @property
    def masked(self) -> bool:
        """Whether the loop said anything of what the heads could do."""
        return self.decision is not None or self.consulted is not None

    @property
    def steps(self) -> int:
        """S, padding among them."""
        return self.logits.shape[-1]


class Steps(NamedTuple):
    """What S steps of H heads say. A step of padding counts nowhere."""

    entropy: Tensor
    """(H, S) nats under the step mask; NaN where the step does not count, or a logit is not finite."""
    decided: Tensor
    """(H, S) nats under the decision mask."""
    log_valid: Tensor
    """(H, S) ln of the valid choices under the decision mask."""
    choice: Tensor
    """(H, S) bool, the head decided something."""
    open: Tensor
    """(H, S) bool"""
    nan: Tensor
    """(H, S) bool, a logit of a valid action is NaN."""
    inf: Tensor
    """(H, S) bool, one is infinite, and none NaN."""
    empty: Tensor
    """(H, S) bool, a mask allows no action."""
    counted: Tensor
    """(S,) bool, the step is none of padding."""
    invalid: Tensor
    """(S,) number of actions that were not valid."""
    probabilities: Tensor
    """(Σn, S) under the decision mask where the head decided something, else 0."""
    deciding: Tensor
    """(Σn, S) 1 where an action was valid and the head decided something, in the same dtype."""

    @property
    def choosing(self) -> Tensor:
        """(H, S) bool, the head decided something, and it is known what."""
        return self.choice & ~self.decided.isnan()


def joined(minibatches: Sequence[Minibatch]) -> Minibatch:
    """Their steps one after the other. Raises ValueError where only some have masks."""
    parts = {}
    for name, values in zip(Minibatch._fields, zip(*minibatches, strict=True), strict=True):
        known = [value for value in values if value is not None]
        if known and len(known) < len(values) and name in {"decision", "consulted", "counted"}:
            raise ValueError(f"{name} masks came with some minibatches of an epoch only; give all or none")
        parts[name] = torch.cat(known, -1) if len(known) == len(values) else None
    return Minibatch(**parts)  # type: ignore[arg-type] # logits are never None


def evaluate(given: Minibatch, layout: HeadLayout) -> Steps:
    """The distributions of these steps."""
    decision = _inferred(given.logits, layout) if given.decision is None else given.decision
    if given.step is not None and given.choice is not None and given.open is not None:
        masks = StepMasks(decision, given.step, given.choice, given.open)
    else:
        masks = masks_of_columns(decision, given.consulted, layout)
    valid = layout.sums(decision.to(given.logits.dtype))
    present = torch.ones_like(valid[0], dtype=torch.bool) if given.counted is None else given.counted
    usable = present & (valid > 0)
    softmax, decided = _softmax(given.logits, decision, layout)
    entropy, peak = decided, softmax.peak
    if masks.step is not masks.decision:
        usable &= layout.sums(masks.step.to(given.logits.dtype)) > 0
        under_step, entropy = _softmax(given.logits, masks.step, layout)
        peak = under_step.peak
    nan = peak.isnan() & usable
    choice = masks.choice & usable
    deciding = decision & layout.spread(choice & ~decided.isnan())
    probabilities = torch.where(deciding, softmax.probabilities(), 0.0)
    return Steps(
        entropy=torch.where(usable, entropy, torch.nan),
        decided=decided,
        log_valid=valid.log(),
        choice=choice,
        open=masks.open & usable,
        nan=nan,
        inf=entropy.isnan() & usable & ~nan,
        empty=present & ~usable,
        counted=present,
        invalid=(~decision).sum(0) * present,
        probabilities=probabilities,
        deciding=deciding.to(probabilities.dtype),
    )


def _inferred(logits: Tensor, layout: HeadLayout) -> Tensor:
    """The masks (Σn, S) that logits or log-probabilities show, see ``MASKED``. A NaN hides none."""
    lowest = layout.maxima(logits.nan_to_num(-torch.inf, torch.inf, -torch.inf)) - MASKED
    return ~(logits < layout.spread(lowest))


def _softmax(logits: Tensor, valid: Tensor, layout: HeadLayout) -> tuple[Softmax, Tensor]:
    """Distributions of all heads under a mask (Σn, S), and their entropies (H, S)."""
    softmax = Softmax(MaskBits.of(valid, logits.dtype).scores(logits), layout)
    return softmax, softmax.entropy()
