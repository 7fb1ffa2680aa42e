"""The minibatches of one epoch, and what is left of them at its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.epochs import EpochSteps, entropy_sums, ratio_sums
from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.meter.minibatch import Minibatch, Steps, evaluate, joined
from rl_exporter.integrations.meter.preference import ChoiceSteps

_STEPS_AT_A_TIME = 8192
"""Steps that are evaluated together: fewer would wait for Python, more would not fit the cache."""


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


def unusable(steps: Steps) -> Unusable:
    """Counts of steps that say nothing of a head."""
    return Unusable(steps.nan.sum(1), steps.inf.sum(1), steps.empty.sum(1))


class Epoch:
    """Takes the minibatches of one epoch. ``rows`` counts their steps so far, padding among them."""

    def __init__(self, layout: HeadLayout, clip: float) -> None:
        self._layout, self._clip = layout, clip
        self._minibatches: list[Minibatch] = []
        self._evaluated: list[Steps] = []
        self._wide: WideChoices | None = None
        self.rows = 0

    def add(self, minibatch: Minibatch) -> None:
        """Keep one minibatch. It is evaluated together with others, which costs a fraction."""
        self.rows += minibatch.steps
        if self._layout.width > WIDE:
            self._evaluated.append(self._streamed(evaluate(minibatch, self._layout)))
            minibatch = minibatch._replace(logits=minibatch.logits[:0], decision=None, step=None)
        self._minibatches.append(minibatch)

    def _streamed(self, steps: Steps) -> Steps:
        """Add the distributions of wide heads up, and let them go."""
        exact = exact_dtype(steps.entropy.device)
        kept = torch.where(steps.choosing, steps.decided, 0.0)
        new = WideChoices(steps.probabilities.sum(1, dtype=exact), kept.sum(1, dtype=exact))
        old = self._wide
        self._wide = new if old is None else WideChoices(*(a + b for a, b in zip(old, new, strict=True)))
        return steps._replace(probabilities=steps.probabilities[:0], deciding=steps.deciding[:0])

    def steps(self) -> Steps:
        """What all steps so far say."""
        if self._layout.width <= WIDE:
            self._evaluated = [evaluate(joined(group), self._layout) for group in self._groups()]
        return Steps(*(torch.cat(parts, -1) for parts in zip(*self._evaluated, strict=True)))

    def _groups(self) -> Iterator[list[Minibatch]]:
        """Minibatches to evaluate together."""
        group: list[Minibatch] = []
        for minibatch in self._minibatches:
            if group and sum(one.steps for one in group) + minibatch.steps > _STEPS_AT_A_TIME:
                yield group
                group = []
            group.append(minibatch)
        yield group

    def totals(self, steps: Steps) -> EpochTotals:
        """The sums of the epoch, now that it is whole."""
        by_step = (steps.entropy, steps.decided, steps.log_valid, steps.choice)
        sums = entropy_sums(EpochSteps(*(part.T.unsqueeze(0) for part in by_step)), 1)
        counts = EpochCounts(steps.choice.sum(1), steps.open.sum(1), steps.counted.sum(), steps.invalid.sum())
        return EpochTotals({**sums, **self._ratios(steps)}, counts, self._advantages(steps.choosing))

    def choices(self, steps: Steps) -> ChoiceSteps | WideChoices:
        """What the heads did at their choice steps."""
        if self._wide is not None:
            return self._wide
        entropy = torch.where(steps.choosing, steps.decided, 0.0)
        return ChoiceSteps(steps.probabilities, steps.deciding, entropy)

    def _ratios(self, steps: Steps) -> dict[str, Tensor]:
        nothing = steps.entropy.new_zeros(len(self._layout.sizes))
        logarithms = [one.log_ratio for one in self._minibatches if one.log_ratio is not None]
        if len(logarithms) < len(self._minibatches):
            return {"clipped_steps": nothing[:1], "importance_ratio_max": nothing}
        log_ratio = torch.cat(logarithms, 1)
        together = len(log_ratio) < len(steps.choice)
        choice = steps.choice.any(0, keepdim=True) if together else steps.choice
        # Where nothing was decided, the ratio is 1.
        ratio = torch.where(choice, log_ratio, 0.0).exp().T.unsqueeze(0)
        sums = ratio_sums(ratio, choice.T.unsqueeze(0), self._clip, 1)
        # Of all heads together: which of them it belongs to is not known.
        return {**sums, "importance_ratio_max": nothing} if together else sums

    def _advantages(self, choosing: Tensor) -> AdvantageSums:
        """Of the minibatches that had advantages."""
        sums = AdvantageSums.none(self._layout.total, choosing.device)
        parts = torch.split(choosing, [one.steps for one in self._minibatches], 1)
        for own, given in zip(parts, self._minibatches, strict=True):
            if given.actions is not None and given.advantages is not None:
                new = advantage_sums(own.T, given.actions.T, given.advantages, self._layout)
                sums = AdvantageSums(*(a + b for a, b in zip(sums, new, strict=True)))
        return sums
