"""The minibatches of one epoch, and what is left of them at its end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.epochs import EpochSteps, entropy_sums, ratio_sums
from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.meter.minibatch import Distributions, Steps
from rl_exporter.integrations.meter.preference import ChoiceSteps

WIDE = 1024
"""Choices of a head beyond which its distributions are added up at once rather than kept until the epoch ends.

The vocabulary of a language model times the tokens of a batch would not fit. State information then exists for
steps without masks alone, where the best preference is the mean distribution.
"""


class Extras(NamedTuple):
    """What a loop may add to a minibatch; None: it did not."""

    ratio: Tensor | None
    """(S, H) importance ratios, or (S, 1) of all heads together; 1 where nothing was decided."""
    actions: Tensor | None
    """(S, H)"""
    advantages: Tensor | None
    """(S,) normalized"""
    explicit: bool
    """The loop gave masks."""


class EpochCounts(NamedTuple):
    """Counts over the steps of one epoch."""

    choice: Tensor
    """(H,) choice steps."""
    open: Tensor
    """(H,) open steps."""
    steps: Tensor
    masked: Tensor
    """Actions that were not valid."""


class WideChoices(NamedTuple):
    """Sums over the choice steps of heads of which one is wide."""

    probability: Tensor
    """(Σn,)"""
    entropy: Tensor
    """(H,) nats"""


class EpochTotals(NamedTuple):
    """What is left of one whole epoch."""

    sums: dict[str, Tensor]
    """Some of ``UpdateSums``, for one epoch."""
    counts: EpochCounts
    advantages: AdvantageSums


class Unusable(NamedTuple):
    """Steps that say nothing of a head, (H,) each."""

    nan: Tensor
    inf: Tensor
    empty: Tensor


class Epoch:
    """Takes the minibatches of one epoch. ``rows`` counts their steps so far, padding among them."""

    def __init__(self, layout: HeadLayout, clip: float) -> None:
        self._layout, self._clip = layout, clip
        self._steps: list[Steps] = []
        self._extras: list[Extras] = []
        self._distributions: list[Distributions] = []
        self._wide: WideChoices | None = None
        self.rows = 0

    def add(self, steps: Steps, distributions: Distributions, extras: Extras) -> None:
        """Keep one minibatch."""
        self.rows += len(steps.entropy)
        self._steps.append(steps)
        self._extras.append(extras)
        if self._layout.width <= WIDE:
            self._distributions.append(distributions)
            return
        exact = exact_dtype(steps.entropy.device)
        kept = torch.where(steps.choosing, steps.decided, 0.0)
        new = WideChoices(distributions.probabilities.sum(1, dtype=exact), kept.sum(0, dtype=exact))
        old = self._wide
        self._wide = new if old is None else WideChoices(*(a + b for a, b in zip(old, new, strict=True)))

    def unusable(self) -> Unusable:
        """Steps so far that say nothing of a head."""
        steps = self._joined()
        return Unusable(steps.nan.sum(0), steps.inf.sum(0), steps.empty.sum(0))

    def totals(self) -> EpochTotals:
        """The sums of the epoch, now that it is whole."""
        steps = self._joined()
        by_step = (steps.entropy, steps.decided, steps.log_valid, steps.choice)
        sums = entropy_sums(EpochSteps(*(part.unsqueeze(0) for part in by_step)), 1)
        counts = EpochCounts(steps.choice.sum(0), steps.open.sum(0), steps.counted.sum(), steps.masked.sum())
        return EpochTotals({**sums, **self._ratios(steps)}, counts, self._advantages(steps.choosing))

    def choices(self) -> ChoiceSteps | WideChoices:
        """What the heads did at their choice steps."""
        if self._wide is not None:
            return self._wide
        steps = self._joined()
        probabilities, deciding = (torch.cat(parts, 1) for parts in zip(*self._distributions, strict=True))
        return ChoiceSteps(
            probabilities, deciding, torch.where(steps.choosing, steps.decided, 0.0).T.contiguous()
        )

    def _joined(self) -> Steps:
        return Steps(*map(torch.cat, zip(*self._steps, strict=True)))

    def _ratios(self, steps: Steps) -> dict[str, Tensor]:
        nothing = steps.entropy.new_zeros(len(self._layout.sizes))
        ratios = [one.ratio for one in self._extras if one.ratio is not None]
        if len(ratios) < len(self._extras):
            return {"clipped_steps": nothing[:1], "importance_ratio_max": nothing}
        ratio = torch.cat(ratios)
        if ratio.shape == steps.choice.shape:
            return ratio_sums(ratio.unsqueeze(0), steps.choice.unsqueeze(0), self._clip, 1)
        # Of all heads together: which of them it belongs to is not known.
        choice = steps.choice.any(1, keepdim=True)
        return {
            **ratio_sums(ratio.unsqueeze(0), choice.unsqueeze(0), self._clip, 1),
            "importance_ratio_max": nothing,
        }

    def _advantages(self, choosing: Tensor) -> AdvantageSums:
        """Of the minibatches that had advantages."""
        sums = AdvantageSums.none(self._layout.total, choosing.device)
        sizes = [len(steps.entropy) for steps in self._steps]
        for own, extras in zip(torch.split(choosing, sizes), self._extras, strict=True):
            if extras.actions is not None and extras.advantages is not None:
                new = advantage_sums(own, extras.actions, extras.advantages, self._layout)
                sums = AdvantageSums(*(a + b for a, b in zip(sums, new, strict=True)))
        return sums
