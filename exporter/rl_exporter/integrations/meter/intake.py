"""From the arguments of ``HeadMeter.add`` to a minibatch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.meter.form import PerHead, mask_rows, require_some_choice, step_values
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.meter.minibatch import Minibatch
from rl_exporter.integrations.meter.operations import (
    OperationLayout,
    masks_of_columns,
    masks_of_operations,
)


class Intake:
    """Takes minibatches of heads that lie as ``layout`` says; ValueError or TypeError for what does not fit."""

    def __init__(self, layout: HeadLayout, operations: Operations | None) -> None:
        self._layout = layout
        self._operations = OperationLayout.of(operations, layout)

    def minibatch(
        self, rows: Tensor, masks: PerHead | None, given: Mapping[str, Tensor | None], *, check: bool
    ) -> Minibatch:
        """One minibatch of logits (S, Σn). With ``check`` the host waits for the device to know the masks."""
        steps, heads = len(rows), len(self._layout.sizes)
        values = {
            name: None
            if value is None
            else step_values(value, steps, name, heads if name in _BY_HEAD else None)
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
            log_ratio=self._log_ratio(given, steps),
            actions=None if actions is None else actions.to(torch.int64, copy=True).T,
            advantages=None if advantages is None else advantages.to(torch.float32, copy=True),
        )
        return self._with_masks(found, rows, masks, check=check)

    def rollout(self, actions: Tensor, advantages: Tensor, masks: PerHead | None) -> AdvantageSums:
        """The advantages of a whole rollout by sampled action."""
        layout = self._layout
        paid = advantages.reshape(-1).to(layout.segment.device)
        chosen = step_values(actions, len(paid), "actions", len(layout.sizes)).to(paid.device).long()
        everything = torch.ones(len(paid), layout.total, dtype=torch.bool, device=paid.device)
        allowed = everything if masks is None else mask_rows(masks, layout, everything)
        return advantage_sums(masks_of_columns(allowed.T, None, layout).choice.T, chosen, paid, layout)

    def _with_masks(self, found: Minibatch, rows: Tensor, given: PerHead | None, *, check: bool) -> Minibatch:
        layout, operations = self._layout, self._operations
        if operations is not None and found.actions is None:
            raise ValueError(
                "actions are missing; with operations, give the sampled actions of every step, (…, H)"
            )
        sampled = None
        if operations is not None and found.actions is not None:
            # Padding may hold any action; as an index it would be an error, which on a GPU ends the program.
            sampled = found.actions[operations.head].clamp(0, operations.number - 1)
        if sampled is not None and operations is not None and operations.consult is not None:
            found = found._replace(consulted=operations.consult[sampled].T)
        if given is None:
            return found
        masks = mask_rows(given, layout, rows, 1 if operations is None else operations.number)
        if check:
            padding = None if found.counted is None else ~found.counted
            require_some_choice(masks, layout, padding)
        if operations is None or sampled is None or masks.ndim == 2:
            return found._replace(decision=masks.T.clone(memory_format=torch.contiguous_format))
        allowed = masks_of_operations(masks, sampled, operations, layout)
        return found._replace(
            decision=allowed.decision, step=allowed.step, choice=allowed.choice, open=allowed.open
        )

    def _log_ratio(self, given: Mapping[str, Tensor | None], steps: int) -> Tensor | None:
        """(H, S), or (1, S) where the log-probabilities are of all heads together."""
        new, old = (given.get(name) for name in _LOGARITHMS)
        if new is None or old is None:
            return None
        heads = len(self._layout.sizes)
        together = new.numel() == steps
        width = None if together and heads > 1 else heads
        parts = (step_values(new, steps, "log_probs", width), step_values(old, steps, "old_log_probs", width))
        # Half precision has a ratio of 1.2 as 1.195: too coarse to say whether it is inside the clip range.
        exact, former = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in parts)
        return (exact - former).reshape(steps, -1).T


_BY_HEAD = frozenset({"actions", "consulted"})
_LOGARITHMS = ("log_probs", "old_log_probs")


def _wide_columns(rows: Tensor) -> Tensor:
    """(Σn, S), always a copy, in float32 or float64: half precision is too coarse for an entropy."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.T.to(wide, copy=True, memory_format=torch.contiguous_format)
