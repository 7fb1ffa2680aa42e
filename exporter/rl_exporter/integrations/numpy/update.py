"""One update of a metered policy: its epochs, its gradients, and the numbers at its end."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial

import numpy as np

from rl_exporter.integrations.meter.attempt import Attempt
from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.meter.meter_result import MeterResult, divided
from rl_exporter.integrations.meter.metering import NOTHING, common_epochs
from rl_exporter.integrations.meter.sums import (
    DECLARATIONS,
    ActionSums,
    Extent,
    FloatArray,
    Preferences,
    UpdateSums,
    combine,
    decision_sums,
)
from rl_exporter.integrations.numpy.epoch import Epoch, Minibatch
from rl_exporter.integrations.numpy.exchange import Exchange
from rl_exporter.integrations.numpy.gradients import gradient_sums
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.preference import fit_preferences, wide_preferences
from rl_exporter.integrations.numpy.totals import AdvantageSums, StepSums, no_advantages


class MeteredUpdate:
    """Takes minibatches, ends of epochs and gradients of one update. ``former``: margins of past updates."""

    def __init__(self, layout: HeadLayout, former: AdvantageSums | None = None) -> None:
        self._layout = layout
        self._former = no_advantages(layout) if former is None else former
        self._epoch = Epoch(layout)
        self._whole: list[Epoch] = []
        self._gradients: list[FloatArray] = []
        self._gradients_of: list[int] = []
        self._minibatches = self._whole_minibatches = 0
        self._has_ratios, self._has_masks = True, False
        self._advantages: AdvantageSums | None = None

    @property
    def rows(self) -> int:
        """Steps of the present epoch so far."""
        return self._epoch.rows

    @property
    def whole_epochs(self) -> int:
        """Epochs that have ended."""
        return len(self._whole)

    def add(self, minibatch: Minibatch) -> None:
        """Keep one minibatch."""
        self._epoch.add(minibatch)
        self._minibatches += 1
        self._has_ratios &= minibatch.ratios is not None
        self._has_masks |= minibatch.masked

    def end_epoch(self) -> None:
        """The present epoch has seen every step once; without any step it does not count."""
        if not self._epoch.rows:
            return
        if self._whole:
            self._whole[-1].drop_choices()  # only those of the last whole epoch are used
        self._whole.append(self._epoch)
        self._whole_minibatches = self._minibatches
        self._epoch = Epoch(self._layout)

    def add_advantages(self, sums: AdvantageSums) -> None:
        """Keep the sums of a whole rollout; they replace those of minibatches."""
        self._advantages = sums

    def add_gradients(self, norms: FloatArray) -> None:
        """Keep the norms (H,) of one optimiser step, or of some heads of it."""
        self._gradients.append(norms)
        self._gradients_of.append(self._minibatches)

    def result(self, exchange: Exchange, failure: Exception | None) -> MeterResult:
        """The numbers over all processes. After the exchange it raises ``failure``, or what went wrong here."""
        attempt, layout = Attempt(failure), self._layout
        measured = failure is None and bool(self._whole or self._epoch.rows)
        own = np.array([len(self._whole) if measured else NOTHING], np.float64)
        # All rows must be as long, also that of a process that failed or saw no step.
        epochs = int(common_epochs(exchange.rows(own)[:, 0]))
        last = self._whole[-1] if self._whole else Epoch(layout)
        kept = self._whole[:epochs]
        extent = Extent(epochs, len(layout.sizes), layout.total)
        preferences = self._preferences(last, exchange, attempt)
        counts = 3 * len(layout.sizes) + 3
        row = attempt.part(
            lambda: np.concatenate([*map(np.ravel, self._sums(preferences, kept, extent)), self._counts(kept)]),
            lambda: np.concatenate([_failed_row(extent), np.zeros(counts)]),
        )
        rows = exchange.rows(row)
        if attempt.failure is not None:
            raise attempt.failure
        sums = combine(rows[:, :-counts], extent)
        sampled = ActionSums(sums.sampled_steps, sums.sampled_advantage, sums.sampled_advantage_square)
        told = rows[:, -counts:].sum(0).tolist()
        advantages, given = self._former.after(sampled), {"ratios": self._has_ratios, "masks": self._has_masks}
        return divided(sums, told, layout, advantages, **given)

    def _preferences(self, last: Epoch, exchange: Exchange, attempt: Attempt) -> Preferences[FloatArray] | None:
        if self._layout.width > WIDE:
            return wide_preferences(last.choices(), self._layout, exchange, attempt)
        return fit_preferences(last.choices, self._layout, exchange, attempt)

    def _sums(
        self, preferences: Preferences[FloatArray] | None, epochs: list[Epoch], extent: Extent
    ) -> UpdateSums[FloatArray]:
        assert preferences is not None, "an attempt that failed measures nothing more"
        of_minibatches = epochs[-1].advantages if epochs else no_advantages(self._layout)
        advantages = self._advantages or of_minibatches
        largest = [epoch.ratios.largest for epoch in epochs]
        every, none, per_epoch = self._every_step(), np.zeros(()), np.zeros(extent.epochs)
        by_epoch = partial(_by_epoch, epochs, extent)
        # There may be several to a minibatch: one for each head, or for each step of an optimiser.
        whole = bisect_right(self._gradients_of, self._whole_minibatches)
        return UpdateSums(
            failed=none,
            entropy=by_epoch("entropy"),
            entropy_steps=by_epoch("entropy_steps"),
            choice_entropy=by_epoch("choice_entropy"),
            choice_entropy_steps=by_epoch("choice_entropy_steps"),
            clipped_steps=np.array([epoch.ratios.clipped for epoch in epochs]) if epochs else per_epoch,
            importance_ratio_max=np.max(largest, 0) if largest else np.zeros(extent.heads),
            nan_steps=every.nan,
            inf_steps=every.inf,
            **decision_sums(preferences, advantages),
            kl_divergence=none,
            gradient_norm=per_epoch,
            policy_loss=per_epoch,
            value_loss=per_epoch,
            optimizer_steps=per_epoch,
            explained_variance=none,
            **gradient_sums(self._gradients, whole, extent.heads),
        )

    def _every_step(self) -> StepSums:
        """Of all epochs, one that was cut short among them."""
        total = self._epoch.sums
        for epoch in self._whole:
            total = total.plus(epoch.sums)
        return total

    def _counts(self, epochs: list[Epoch]) -> FloatArray:
        """Those that ``divided`` takes: of the last whole epoch, but empty masks of all."""
        last = epochs[-1].sums if epochs else StepSums.none(len(self._layout.sizes))
        every = sum(epoch.sums.steps for epoch in epochs)
        numbers = [last.steps, last.masked, every]
        return np.concatenate([last.choice, last.open, self._every_step().empty, numbers])


def _by_epoch(epochs: list[Epoch], extent: Extent, name: str) -> FloatArray:
    """(epochs, heads); zeros where this process saw no step."""
    if not epochs:
        return np.zeros((extent.epochs, extent.heads))
    return np.array([getattr(epoch.sums, name) for epoch in epochs])


def _failed_row(extent: Extent) -> FloatArray:
    """What a process that could not measure sends: a row as long as that of the others."""
    zeros = {name: np.zeros(declared.shape(extent)) for name, declared in DECLARATIONS.items()}
    return np.concatenate([*map(np.ravel, {**zeros, "failed": np.ones(())}.values())])
