"""From the arguments of ``HeadMeter.add`` to a minibatch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.meter.form import PerHead, mask_rows, require_some_choice, step_values
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums, require_known_actions
from rl_exporter.integrations.meter.minibatch import Minibatch, evaluate
from rl_exporter.integrations.meter.operations import (
    OperationLayout,
    masks_of_actions,
    masks_of_operations,
)
from rl_exporter.integrations.meter.step_order import require_one_order
from rl_exporter.integrations.meter.uploads import on_device


class Intake:
    """Takes minibatches of heads that lie as ``layout`` says; ValueError or TypeError for what does not fit."""

    def __init__(self, layout: HeadLayout, operations: Operations | None) -> None:
        self._layout = layout
        self._operations = OperationLayout.of(operations, layout)
        self._number = 1 if self._operations is None else self._operations.number

    def checked(
        self, logits: PerHead, rows: Tensor, masks: PerHead | None, given: Mapping[str, Tensor | None]
    ) -> Minibatch:
        """``minibatch``, but also for what only one look at the numbers says; the host waits for the device.

        ``logits`` are the rows in the form that the loop gave.
        """
        require_one_order({"logits": logits, "masks": masks, **given}, self._layout, self._number)
        found = self.minibatch(rows, masks, given)
        if masks is not None:
            padding = None if found.counted is None else ~found.counted
            require_some_choice(mask_rows(masks, self._layout, rows, self._number), self._layout, padding)
        if found.actions is not None:
            require_known_actions(evaluate(found, self._layout).choosing, found.actions, self._layout)
        return found

    def minibatch(self, rows: Tensor, masks: PerHead | None, given: Mapping[str, Tensor | None]) -> Minibatch:
        """One minibatch of logits (S, Σn)."""
        steps, heads = len(rows), len(self._layout.sizes)
        values = {
            name: None
            if value is None
            else step_values(value, steps, name, rows.device, heads if name in _BY_HEAD else None)
            for name, value in given.items()
            if name not in _LOGARITHMS
        }
        actions, consulted, counted = (values.get(name) for name in ("actions", "consulted", "valid"))
        advantages = values.get("advantages")
        found = Minibatch(
            logits=_wide_columns(rows),
            decision=None,
            step=None,
            choice=None,
            open=None,
            consulted=None if consulted is None else (consulted != 0).T,
            counted=None if counted is None else counted != 0,
            log_ratio=self._log_ratio(given, rows),
            actions=None if actions is None else actions.to(torch.int64, copy=True).T,
            advantages=None if advantages is None else advantages.to(torch.float32, copy=True),
        )
        return self._with_masks(found, rows, masks)

    def rollout(self, actions: Tensor, advantages: Tensor, masks: PerHead | None) -> AdvantageSums:
        """The advantages of a whole rollout by sampled action."""
        layout, operations = self._layout, self._operations
        require_one_order({"advantages": advantages, "actions": actions, "masks": masks}, layout, self._number)
        paid = on_device(advantages.reshape(-1), layout.segment.device)
        chosen = step_values(actions, len(paid), "actions", paid.device, len(layout.sizes)).long()
        everything = torch.ones(len(paid), layout.total, dtype=torch.bool, device=paid.device)
        allowed = everything if masks is None else mask_rows(masks, layout, everything, self._number)
        choice = masks_of_actions(allowed, chosen.T, operations, layout).choice
        return advantage_sums(choice.T, chosen, paid, layout)

    def _with_masks(self, found: Minibatch, rows: Tensor, given: PerHead | None) -> Minibatch:
        layout, operations = self._layout, self._operations
        if operations is not None and found.actions is None:
            raise ValueError(
                "actions are missing; with operations, give the sampled actions of every step, (…, H)"
            )
        sampled = None if operations is None or found.actions is None else operations.sampled(found.actions)
        if sampled is not None and operations is not None and operations.consult is not None:
            found = found._replace(consulted=operations.consult[sampled].T)
        if given is None:
            return found
        masks = mask_rows(given, layout, rows, self._number)
        if operations is None or sampled is None or masks.ndim == 2:
            return found._replace(decision=masks.T.clone(memory_format=torch.contiguous_format))
        allowed = masks_of_operations(masks, sampled, operations, layout)
        return found._replace(
            decision=allowed.decision, step=allowed.step, choice=allowed.choice, open=allowed.open
        )

    def _log_ratio(self, given: Mapping[str, Tensor | None], rows: Tensor) -> Tensor | None:
        """(H, S), or (1, S) where the log-probabilities are of all heads together."""
        new, old = (given.get(name) for name in _LOGARITHMS)
        if new is None or old is None:
            return None
        steps, heads = len(rows), len(self._layout.sizes)
        together = new.numel() == steps
        width = None if together and heads > 1 else heads
        parts = (
            step_values(value, steps, name, rows.device, width)
            for name, value in zip(_LOGARITHMS, (new, old), strict=True)
        )
        # Half precision has a ratio of 1.2 as 1.195: too coarse to say whether it is inside the clip range.
        exact, former = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts)
        return (exact - former).reshape(steps, -1).T


_BY_HEAD = frozenset({"actions", "consulted"})
_LOGARITHMS = ("log_probs", "old_log_probs")


def _wide_columns(rows: Tensor) -> Tensor:
    """(Σn, S), always a copy, in float32 or float64: half precision is too coarse for an entropy."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.T.to(wide, copy=True, memory_format=torch.contiguous_format)
