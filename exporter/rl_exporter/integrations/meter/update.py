"""One update of a metered policy: its epochs, its gradients, and the one transfer at its end."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.epoch import Epoch, EpochTotals, Unusable, WideChoices, unusable
from rl_exporter.integrations.meter.epochs import gradient_sums
from rl_exporter.integrations.meter.exchange import Alone, Exchange, GroupExchange
from rl_exporter.integrations.meter.gradients import GradientNorms, head_norms
from rl_exporter.integrations.meter.layout import HeadLayout, exact_dtype
from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.meter.margin import AdvantageSums
from rl_exporter.integrations.meter.meter_result import MeterResult, divided
from rl_exporter.integrations.meter.metering import NOTHING, common_epochs
from rl_exporter.integrations.meter.minibatch import Minibatch
from rl_exporter.integrations.meter.packing import failed_sums, on_host, pack
from rl_exporter.integrations.meter.preference import (
    ChoiceSteps,
    fit_preferences,
    no_choice_steps,
)
from rl_exporter.integrations.meter.sums import (
    Extent,
    FloatArray,
    Preferences,
    UpdateSums,
    combine,
    decision_sums,
)
from rl_exporter.integrations.meter.uploads import on_device


class Counts(NamedTuple):
    """Counts that a meter needs beside ``UpdateSums``; of the last whole epoch where nothing else is said."""

    choice: Tensor
    """(H,) choice steps."""
    open: Tensor
    """(H,) open steps."""
    empty: Tensor
    """(H,) steps whose mask allowed the head no action, of all epochs."""
    steps: Tensor
    masked: Tensor
    """Actions that were not valid."""
    every: Tensor
    """Steps of all whole epochs together."""

    def packed(self) -> Tensor:
        """As one flat row, (3 H + 3,)."""
        return torch.cat([part.to(exact_dtype(part.device)).flatten() for part in self])


class MeteredUpdate:
    """Takes minibatches, ends of epochs and gradients of one update. ``former``: margins of past updates."""

    def __init__(self, layout: HeadLayout, clip: float, former: AdvantageSums | None = None) -> None:
        self._layout, self._clip = layout, clip
        self._former = AdvantageSums.none(layout.total) if former is None else former
        self._epoch = Epoch(layout, clip)
        self._whole: list[EpochTotals] = []
        self._kept: int | None = None
        self._choices: ChoiceSteps | WideChoices | None = None
        self._unusable: list[Unusable] = []
        self._gradients: list[GradientNorms] = []
        self._gradients_of: list[int] = []
        self._minibatches = self._whole_minibatches = 0
        self._has_ratios, self._has_masks = True, False
        self._advantages: AdvantageSums | None = None

    def move_to(self, layout: HeadLayout) -> None:
        """Go on on the device of ``layout``; before the first minibatch."""
        self._layout, self._epoch = layout, Epoch(layout, self._clip)
        if self._advantages is not None:
            there = (on_device(part, layout.segment.device) for part in self._advantages)
            self._advantages = AdvantageSums(*there)

    @property
    def rows(self) -> int:
        """Steps of the present epoch so far."""
        return self._epoch.rows

    @property
    def whole_epochs(self) -> int:
        """Epochs that have ended, and are kept."""
        return len(self._whole[: self._kept])

    def add(self, minibatch: Minibatch) -> None:
        """Keep one minibatch."""
        self._epoch.add(minibatch)
        self._minibatches += 1
        self._has_ratios &= minibatch.log_ratio is not None
        self._has_masks |= minibatch.masked

    def end_epoch(self) -> None:
        """The present epoch has seen every step once; without any step it does not count."""
        if not self._epoch.rows:
            return
        steps = self._epoch.steps()
        self._unusable.append(unusable(steps))
        self._whole.append(self._epoch.totals(steps))
        self._choices = self._epoch.choices(steps)  # only those of the last whole epoch are used
        self._whole_minibatches = self._minibatches
        self._epoch = Epoch(self._layout, self._clip)

    def keep_epochs(self, number: int) -> None:
        """Count no whole epoch after the first ``number``."""
        self._kept = number

    def add_advantages(self, sums: AdvantageSums) -> None:
        """Keep the sums of a whole rollout; they replace those of minibatches."""
        self._advantages = sums

    def add_gradients(self, norms: GradientNorms, ahead: int) -> None:
        """Keep those of one optimiser step, or of some heads of it; ``ahead`` minibatches are not added yet."""
        self._gradients.append(norms)
        # In order, also where minibatches of an epoch that was cut short are never added.
        self._gradients_of.append(max([self._minibatches + ahead, *self._gradients_of[-1:]]))

    def result(self, exchange: Alone | GroupExchange, failure: Exception | None) -> MeterResult:
        """The numbers over all processes. After the exchange it raises ``failure``, or what went wrong here."""
        attempt = Attempt(failure)
        layout = self._layout
        measured = failure is None and bool(self._whole or self._epoch.rows)
        # All rows must be as long, also that of a process that failed or saw no step.
        own = self.whole_epochs if measured else NOTHING
        epochs = common_epochs(exchange.counts(own, layout.segment.device))
        del self._whole[epochs:]
        extent = Extent(epochs, len(layout.sizes), layout.total)
        preferences = self._preferences(exchange, attempt)
        nothing = self._no_counts()
        row = attempt.part(
            lambda: self._row(preferences, extent),
            lambda: torch.cat([pack(failed_sums(extent, layout.segment.device)), nothing.packed()]),
        )
        rows = on_host(exchange.gather(row))
        if attempt.failure is not None:
            raise attempt.failure
        width = len(nothing.packed())
        return self._divided(combine(rows[:, :-width], extent), rows[:, -width:].sum(0).tolist())

    def _preferences(self, exchange: Exchange, attempt: Attempt) -> Preferences[Tensor] | None:
        layout, choices = self._layout, self._choices
        if layout.width > WIDE:
            return wide_preferences(choices, layout, exchange, attempt)
        kept = choices if isinstance(choices, ChoiceSteps) else no_choice_steps(layout)
        return fit_preferences(lambda: kept, layout, exchange, attempt, layout.segment.device)

    def _row(self, preferences: Preferences[Tensor] | None, extent: Extent) -> Tensor:
        """What this process adds to the numbers."""
        assert preferences is not None, "an attempt that failed measures nothing more"
        # Once: it evaluates the steps of an epoch that was cut short.
        unusable = self._unusable_steps()
        return torch.cat(
            [pack(self._sums(preferences, unusable, extent)), self._counts(unusable.empty).packed()]
        )

    def _sums(self, preferences: Preferences[Tensor], unusable: Unusable, extent: Extent) -> UpdateSums[Tensor]:
        epochs, heads, actions = extent
        zeros = partial(torch.zeros, device=self._layout.segment.device)
        nothing = AdvantageSums(*zeros(3, actions))
        advantages = self._advantages or (self._whole[-1].advantages if self._whole else nothing)
        ratios = [totals.sums["importance_ratio_max"] for totals in self._whole]
        per_epoch = zeros(epochs)
        return UpdateSums(
            failed=zeros(()),
            **{name: self._joined(name, zeros(epochs, heads)) for name in _ENTROPIES},
            clipped_steps=self._joined("clipped_steps", per_epoch),
            importance_ratio_max=torch.stack(ratios).amax(0) if ratios else zeros(heads),
            nan_steps=unusable.nan,
            inf_steps=unusable.inf,
            **decision_sums(preferences, advantages),
            kl_divergence=zeros(()),
            explained_variance=zeros(()),
            gradient_norm=per_epoch,
            policy_loss=per_epoch,
            value_loss=per_epoch,
            optimizer_steps=per_epoch,
            **self._gradient_sums(),
        )

    def _joined(self, name: str, otherwise: Tensor) -> Tensor:
        """A sum of every whole epoch, epochs first."""
        return torch.cat([totals.sums[name] for totals in self._whole]) if self._whole else otherwise

    def _unusable_steps(self) -> Unusable:
        """Of all epochs, one that was cut short among them."""
        parts = [*self._unusable, *([unusable(self._epoch.steps())] if self._epoch.rows else [])]
        zeros = torch.zeros(len(self._layout.sizes), device=self._layout.segment.device)
        return (
            Unusable(*(torch.stack(part).sum(0) for part in zip(*parts, strict=True)))
            if parts
            else Unusable(*[zeros] * 3)
        )

    def _gradient_sums(self) -> dict[str, Tensor]:
        norms = head_norms(self._gradients, self._layout)
        # A head without gradients, -1, has no norm: it must count neither as finite nor as NaN.
        # There may be several to a minibatch: one for each head, or for each step of an optimiser.
        whole = bisect_right(self._gradients_of, self._whole_minibatches)
        sums = gradient_sums(norms.clamp_min(0.0), whole)
        had_none = (norms[:whole] < 0).sum(0)
        return {**sums, "head_gradient_steps": sums["head_gradient_steps"] - had_none}

    def _counts(self, empty: Tensor) -> Counts:
        if not self._whole:
            return self._no_counts()._replace(empty=empty)
        counts = self._whole[-1].counts
        every = torch.stack([totals.counts.steps for totals in self._whole]).sum()
        return Counts(counts.choice, counts.open, empty, counts.steps, counts.masked, every)

    def _no_counts(self) -> Counts:
        zeros = partial(torch.zeros, device=self._layout.segment.device)
        heads = len(self._layout.sizes)
        return Counts(*zeros(3, heads), *zeros(3))

    def _divided(self, sums: UpdateSums[FloatArray], row: list[float]) -> MeterResult:
        advantages = self._former.after(AdvantageSums.of(sums))
        return divided(sums, row, self._layout, advantages, ratios=self._has_ratios, masks=self._has_masks)


_ENTROPIES = ("entropy", "entropy_steps", "choice_entropy", "choice_entropy_steps")


def wide_preferences(
    choices: ChoiceSteps | WideChoices | None, layout: HeadLayout, exchange: Exchange, attempt: Attempt
) -> Preferences[Tensor] | None:
    """The mean distributions of wide heads: the best preferences where nothing is masked."""
    zeros = partial(torch.zeros, dtype=exact_dtype(layout.segment.device), device=layout.segment.device)
    own = (
        choices
        if isinstance(choices, WideChoices)
        else WideChoices(zeros(layout.total), zeros(len(layout.sizes)))
    )
    totals = attempt.part(own.probability.clone, lambda: zeros(layout.total))
    exchange.all_reduce([totals])
    if attempt.failure is not None:
        return None
    weights = totals / layout.spread(layout.sums(totals).clamp_min(torch.finfo(totals.dtype).tiny))
    return Preferences(own.probability, own.entropy, zeros(len(layout.sizes)), weights)
