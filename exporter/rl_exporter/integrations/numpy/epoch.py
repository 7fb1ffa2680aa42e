"""The minibatches of one epoch, as sums, and what the heads did at its choice steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.minibatch import ChoiceSteps
from rl_exporter.integrations.numpy.totals import AdvantageSums, Ratios, StepSums, no_advantages


class Minibatch(NamedTuple):
    """What is kept of one minibatch."""

    rows: int
    """Its steps, padding among them."""
    sums: StepSums
    choices: ChoiceSteps
    ratios: Ratios | None
    """None: the loop did not give any."""
    advantages: AdvantageSums | None
    masked: bool
    """Whether the loop said anything of what the heads could do."""


class Epoch:
    """Takes the minibatches of one epoch. ``rows`` counts their steps so far, padding among them."""

    def __init__(self, layout: HeadLayout) -> None:
        heads = len(layout.sizes)
        self._layout = layout
        self._choices: list[ChoiceSteps] = []
        self._ratios: Ratios | None = Ratios(0.0, np.zeros(heads))
        self.rows = 0
        self.sums = StepSums.none(heads)
        self.advantages = no_advantages(layout)
        """Of the minibatches that had advantages."""

    def add(self, minibatch: Minibatch) -> None:
        """Add one minibatch."""
        self.rows += minibatch.rows
        self.sums = self.sums.plus(minibatch.sums)
        self._keep(minibatch.choices)
        given = minibatch.ratios
        self._ratios = None if self._ratios is None or given is None else self._ratios.plus(given)
        if minibatch.advantages is not None:
            parts = zip(self.advantages, minibatch.advantages, strict=True)
            self.advantages = AdvantageSums(*(one + other for one, other in parts))

    @property
    def ratios(self) -> Ratios:
        """Those of all minibatches; 0 where one of them had none."""
        return self._ratios or Ratios(0.0, np.zeros(len(self._layout.sizes)))

    def choices(self) -> ChoiceSteps:
        """What the heads did at their choice steps; of wide heads one row, the sum over the steps."""
        if not self._choices:
            return no_choice_steps(self._layout)
        return ChoiceSteps(*map(np.concatenate, zip(*self._choices, strict=True)))

    def drop_choices(self) -> None:
        """Free the memory; ``choices`` is then that of an epoch without steps."""
        self._choices = []

    def _keep(self, new: ChoiceSteps) -> None:
        if self._layout.width <= WIDE:
            self._choices.append(new)
            return
        pairs = zip(self.choices(), new, strict=True)
        self._choices = [ChoiceSteps(*(np.concatenate(pair).sum(0, keepdims=True) for pair in pairs))]


def no_choice_steps(layout: HeadLayout) -> ChoiceSteps:
    """The choice steps of an update without a whole epoch."""
    heads = len(layout.sizes)
    return ChoiceSteps(*(np.zeros((0, columns)) for columns in (layout.total, layout.total, heads)))
