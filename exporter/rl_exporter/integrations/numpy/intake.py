"""From the arguments of ``HeadMeter.add`` to what is kept of a minibatch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rl_exporter.integrations.meter.consulting import Consulting, Operations
from rl_exporter.integrations.meter.segments import BoolArray
from rl_exporter.integrations.meter.step_order import require_one_order
from rl_exporter.integrations.meter.sums import FloatArray
from rl_exporter.integrations.numpy.epoch import Minibatch
from rl_exporter.integrations.numpy.form import AnyArray, PerHead, array_of, logit_rows, mask_rows, step_values
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.minibatch import evaluate, inferred_masks
from rl_exporter.integrations.numpy.operations import (
    StepMasks,
    masks_of_operations,
    masks_of_rows,
    sampled_operations,
)
from rl_exporter.integrations.numpy.totals import (
    AdvantageSums,
    advantage_sums,
    importance_ratios,
    step_sums,
)

Given = Mapping[str, npt.ArrayLike | None]
"""The keyword arguments of ``add``."""


class Intake:
    """Takes minibatches of heads that lie as ``layout`` says; ValueError or TypeError for what does not fit."""

    def __init__(self, layout: HeadLayout, operations: Operations | None, clip: float) -> None:
        self._layout, self._clip = layout, clip
        self._operations = None if operations is None else Consulting.of(operations, layout)
        self._number = 1 if self._operations is None else self._operations.number

    def minibatch(self, logits: PerHead, masks: PerHead | None, given: Given, *, check: bool) -> Minibatch:
        """One minibatch. With ``check`` masks that allow nothing are an error."""
        rows = logit_rows(logits, self._layout)
        if check:
            require_one_order({"logits": logits, "masks": masks, **given}, self._layout, self._number)
        values = {
            name: step_values(value, len(rows), name, len(self._layout.sizes) if name in _BY_HEAD else None)
            for name, value in given.items()
            if name not in _LOGARITHMS and value is not None
        }
        counted = values["valid"] != 0 if "valid" in values else np.full(len(rows), True)
        consulted = self._consulted(values, counted)
        step_masks = self._masks(rows, masks, values, consulted, counted, check=check)
        new, old = (given.get(name) for name in _LOGARITHMS)
        steps, choices = evaluate(rows, step_masks, counted, self._layout)
        return Minibatch(
            rows=len(rows),
            sums=step_sums(steps),
            choices=choices,
            ratios=importance_ratios(new, old, steps.choice, self._clip),
            advantages=self._advantages(values, steps.choosing),
            masked=masks is not None or consulted is not None,
        )

    def rollout(
        self, actions: npt.ArrayLike, advantages: npt.ArrayLike, masks: PerHead | None
    ) -> AdvantageSums:
        """The advantages of a whole rollout by sampled action."""
        layout = self._layout
        require_one_order({"advantages": advantages, "actions": actions, "masks": masks}, layout, self._number)
        paid = array_of(advantages, "advantages").reshape(-1).astype(np.float64)
        chosen = step_values(actions, len(paid), "actions", len(layout.sizes)).astype(np.int64)
        everything = np.full((len(paid), layout.total), True)
        allowed = everything if masks is None else mask_rows(masks, layout, len(paid), self._number)
        values, counted = {"actions": chosen}, np.full(len(paid), True)
        masked = self._step_masks(allowed, values, self._consulted(values, counted), counted)
        return advantage_sums(masked.choice, chosen, paid, layout)

    def _consulted(self, values: Mapping[str, AnyArray], counted: BoolArray) -> BoolArray | None:
        """(S, H) the sampled operation uses the head; None: nobody says so."""
        operations = self._operations
        if operations is not None and operations.consult is not None:
            return operations.consult[self._sampled(operations, values, counted)]
        return values["consulted"] != 0 if "consulted" in values else None

    def _sampled(
        self, operations: Consulting, values: Mapping[str, AnyArray], counted: BoolArray
    ) -> npt.NDArray[np.int64]:
        if "actions" not in values:
            raise ValueError(
                "actions are missing; with operations, give the sampled actions of every step, (…, H)"
            )
        return sampled_operations(values["actions"].astype(np.int64), counted, operations, self._layout)

    def _masks(
        self,
        rows: FloatArray,
        given: PerHead | None,
        values: Mapping[str, AnyArray],
        consulted: BoolArray | None,
        counted: BoolArray,
        *,
        check: bool,
    ) -> StepMasks:
        layout = self._layout
        masks = (
            inferred_masks(rows, layout) if given is None else mask_rows(given, layout, len(rows), self._number)
        )
        if check and given is not None:
            padding = ~counted.reshape(-1, *[1] * (masks.ndim - 1))
            layout.require_choices(masks | padding)
        return self._step_masks(masks, values, consulted, counted)

    def _step_masks(
        self, masks: BoolArray, values: Mapping[str, AnyArray], consulted: BoolArray | None, counted: BoolArray
    ) -> StepMasks:
        operations = self._operations
        sampled = None if operations is None else self._sampled(operations, values, counted)
        if operations is None or sampled is None or masks.ndim == 2:
            return masks_of_rows(masks, consulted, self._layout)
        return masks_of_operations(masks, sampled, operations, self._layout)

    def _advantages(self, values: Mapping[str, AnyArray], choosing: BoolArray) -> AdvantageSums | None:
        if "actions" not in values or "advantages" not in values:
            return None
        actions, paid = values["actions"].astype(np.int64), values["advantages"].astype(np.float64)
        return advantage_sums(choosing, actions, paid, self._layout)


_BY_HEAD = frozenset({"actions", "consulted"})
_LOGARITHMS = ("log_probs", "old_log_probs")
