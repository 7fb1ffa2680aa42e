"""Sums over the steps of an epoch, minibatch by minibatch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.segments import BoolArray
from rl_exporter.integrations.meter.sums import ActionSums, FloatArray
from rl_exporter.integrations.numpy.form import step_values
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.minibatch import Steps


class StepSums(NamedTuple):
    """Sums over some steps; (H,) each where nothing else is said."""

    entropy: FloatArray
    entropy_steps: FloatArray
    choice_entropy: FloatArray
    """H / ln v"""
    choice_entropy_steps: FloatArray
    choice: FloatArray
    open: FloatArray
    nan: FloatArray
    inf: FloatArray
    empty: FloatArray
    steps: Any
    """A number, and so is the next."""
    masked: Any

    @classmethod
    def none(cls, heads: int) -> StepSums:
        """No step."""
        return cls(*np.zeros((len(cls._fields) - 2, heads)), *np.zeros(2))

    def plus(self, more: StepSums) -> StepSums:
        """Those of both."""
        return StepSums(*(one + other for one, other in zip(self, more, strict=True)))


def step_sums(steps: Steps) -> StepSums:
    """The sums of one minibatch."""
    measured, choosing = ~np.isnan(steps.entropy), steps.choosing
    ratios = np.where(choosing, steps.decided / steps.log_valid, 0.0)
    return StepSums(
        entropy=np.where(measured, steps.entropy, 0.0).sum(0),
        entropy_steps=_count(measured),
        choice_entropy=ratios.sum(0),
        choice_entropy_steps=_count(choosing),
        choice=_count(steps.choice),
        open=_count(steps.open),
        nan=_count(steps.nan),
        inf=_count(steps.inf),
        empty=_count(steps.empty),
        steps=_count(steps.counted),
        masked=steps.masked.sum(),
    )


def _count(flags: BoolArray) -> FloatArray:
    count: FloatArray = flags.sum(0, dtype=np.float64)
    return count


class Ratios(NamedTuple):
    """Importance ratios over some steps."""

    clipped: float
    """Steps outside of the clip range."""
    largest: FloatArray
    """(H,) of the choice steps; 0 without any, and where the ratios are of all heads together."""

    def plus(self, more: Ratios) -> Ratios:
        """Those of both."""
        return Ratios(self.clipped + more.clipped, np.maximum(self.largest, more.largest))


def importance_ratios(
    log_probs: npt.ArrayLike | None, old: npt.ArrayLike | None, choice: BoolArray, clip: float
) -> Ratios | None:
    """From log-probabilities (…, H), or (…) of all heads together; None where they are not known."""
    if log_probs is None or old is None:
        return None
    steps, heads = choice.shape
    joint = np.size(log_probs) == steps and heads > 1
    width = None if joint else heads
    new, former = (
        step_values(given, steps, what, width).astype(np.float64)
        for given, what in ((log_probs, "log_probs"), (old, "old_log_probs"))
    )
    decided = choice.any(1, keepdims=True) if joint else choice
    # A head that decided nothing has the ratio 1, which is inside any range.
    ratio = np.where(decided, np.exp(new - former).reshape(decided.shape), 1.0)
    outside = (ratio.min(1) < 1 - clip) | (ratio.max(1) > 1 + clip)
    largest = np.zeros(heads) if joint else np.where(choice, ratio, 0.0).max(0, initial=0.0)
    return Ratios(float(outside.sum()), largest)


AdvantageSums = ActionSums[FloatArray]


def no_advantages(layout: HeadLayout) -> AdvantageSums:
    """Before the first update."""
    return ActionSums(*np.zeros((3, layout.total)))


def advantage_sums(
    choosing: BoolArray, actions: npt.NDArray[np.int64], advantages: FloatArray, layout: HeadLayout
) -> AdvantageSums:
    """From choice steps and actions (S, H), and normalized advantages (S,).

    Raises ValueError for an action that the head does not have; what is no choice step may have any.
    """
    counted = choosing & np.isfinite(advantages)[:, None]
    wrong = counted & ((actions < 0) | (actions >= layout.sizes))
    if wrong.any():
        step, head = np.argwhere(wrong)[0]
        raise ValueError(
            f"actions of head {layout.names[head]!r} hold {actions[step, head]}, but the head has "
            f"{layout.sizes[head]} choices"
        )
    columns = (actions + layout.offsets)[counted]
    paid = np.broadcast_to(advantages[:, None], counted.shape)[counted]
    powers = (np.ones_like(paid), paid, paid * paid)
    return ActionSums(*(np.bincount(columns, power, layout.total).astype(np.float64) for power in powers))
