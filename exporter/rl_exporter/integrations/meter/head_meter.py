"""The meter: minibatches in, the numbers of one update out, with one transfer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter import compiled
from rl_exporter.integrations.meter.arguments import record_arguments
from rl_exporter.integrations.meter.epoch import Extras
from rl_exporter.integrations.meter.exchange import ALONE, GroupExchange
from rl_exporter.integrations.meter.form import (
    PerHead,
    logit_rows,
    mask_rows,
    require_some_choice,
    step_values,
)
from rl_exporter.integrations.meter.gradients import Parameters, head_gradient_norms
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums, advantage_sums
from rl_exporter.integrations.meter.minibatch import evaluate, inferred_masks
from rl_exporter.integrations.meter.operations import (
    OperationLayout,
    Operations,
    StepMasks,
    masks_of_operations,
    masks_of_rows,
)
from rl_exporter.integrations.meter.update import MeteredUpdate, MeterResult

_LOG = logging.getLogger("rl_exporter")


class DeclaresHeads(Protocol):
    """A recorder: it knows the heads, and counts errors in telemetry."""

    @property
    def heads(self) -> Heads:
        """The heads it was declared with."""

    def count_record_error(self) -> None:
        """Count an error that lost a part of an update."""


class HeadMeter:
    """Measures the heads of a policy from what its loss computes anyway, update by update.

    ``add`` every minibatch, inside the loss; ``end_epoch`` after each pass over the rollout; ``result`` once an
    update, for ``HeadRecorder.record``. An epoch that was cut short, because the KL divergence grew too large,
    counts in no mean. Without ``end_epoch`` all minibatches of an update count as one epoch; with
    ``epoch_steps`` the meter ends an epoch by itself once it has seen so many steps. ``partial_epochs``: an
    update without a whole epoch is measured at the steps that it did visit, a random part of the rollout where
    minibatches are drawn at random.

    ``heads`` is the recorder, or what ``rl_exporter.serve`` takes. ``operations`` describes a head that selects
    which others are used. ``clip`` is PPO's clip range.

    Nothing that the meter keeps holds the graph of the loss. Only ``result`` makes the host wait for the
    device. The first ``add`` raises ValueError or TypeError for what does not fit; later errors are logged
    once, counted with ``count_error`` (by default that of the recorder), and cost the numbers of that update,
    never the training. A ``lenient`` meter raises nothing at all, for code between a library and its user.
    """

    def __init__(
        self,
        heads: DeclaresHeads | Heads | Mapping[str, SupportsIndex],
        *,
        operations: Operations | None = None,
        clip: float = 0.2,
        epoch_steps: int | None = None,
        partial_epochs: bool = False,
        lenient: bool = False,
        count_error: Callable[[], None] | None = None,
    ) -> None:
        self._heads = _declared(heads)
        counts: Callable[[], None] = getattr(heads, "count_record_error", _nothing)
        self._guard = ErrorGuard(count_error or counts)
        self._operations, self._clip = operations, clip
        self._place(torch.device("cpu"))
        self._update = MeteredUpdate(self._layout, clip)
        self._failure: Exception | None = None
        self._said_epochs, self._epochs = 0, 1
        self._former: AdvantageSums | None = None
        self._partial_epochs = partial_epochs
        self._checked = self._warned = lenient
        self._token = compiled.register(self)
        self.epoch_steps = epoch_steps
        """Steps of an epoch; None: ``end_epoch`` says where one ends. A loop may change it between updates."""

    @property
    def heads(self) -> Heads:
        """The heads that it measures, in order."""
        return self._heads

    def add(
        self,
        logits: PerHead,
        masks: PerHead | None = None,
        *,
        valid: Tensor | None = None,
        consulted: Tensor | None = None,
        actions: Tensor | None = None,
        advantages: Tensor | None = None,
        log_probs: Tensor | None = None,
        old_log_probs: Tensor | None = None,
    ) -> None:
        """One minibatch of S steps, of any leading shape.

        ``logits``: floating-point logits or log-probabilities of all heads, see ``PerHead``, or distributions
        that have them. ``masks``: booleans in the same form, or (…, K, Σn) where row k holds if the sampled
        operation is k; left out, they are those that the logits show (an action 10,000 below the largest was
        not valid). ``valid`` (…): False for padding. ``consulted`` (…, H): False where the sampled operation
        did not use the head. ``actions`` (…, H) and normalized ``advantages`` (…): for the advantage margin.
        ``log_probs`` and ``old_log_probs``, (…, H) or (…) of all heads together: for importance ratios.
        """
        given = {
            "valid": valid,
            "consulted": consulted,
            "actions": actions,
            "advantages": advantages,
            "log_probs": log_probs,
            "old_log_probs": old_log_probs,
        }
        if torch.compiler.is_compiling():
            compiled.add(self._token, self._heads.names, logits, masks, given)
        else:
            self.add_eagerly(logits, masks, given)

    def add_eagerly(self, logits: PerHead, masks: PerHead | None, given: Mapping[str, Tensor | None]) -> None:
        """What ``add`` does, outside a compiled graph."""
        if not self._checked:
            self._add(logits, masks, **given)
            self._checked = True
            return
        self._attempt(partial(self._add, logits, masks, **given))

    def add_rollout(self, actions: Tensor, advantages: Tensor, masks: PerHead | None = None) -> None:
        """What a whole rollout sampled, (…, H), and its normalized advantages, (…), for the advantage margin.

        Instead of ``actions`` and ``advantages`` of each ``add``, for loops whose minibatches lack them.
        ``masks`` as for ``add``; left out, every step is a choice step of each head with two choices or more.
        """
        self._attempt(partial(self._add_rollout, actions, advantages, masks))

    def end_epoch(self) -> None:
        """Every step of the rollout was added once since the last call."""
        self._said_epochs += 1
        self._attempt(self._end_epoch)

    def gradients(self, owners: Parameters | Mapping[str, Parameters]) -> None:
        """Norms of the gradients that a backward pass left; call it before they are clipped.

        ``owners``: the layer that puts out all logits, one row each, or modules or parameters by head.
        """
        self._attempt(lambda: self._update.add_gradients(head_gradient_norms(owners, self._layout)))

    def result(self, group: dist.ProcessGroup | None = None) -> dict[str, Any]:
        """The numbers of the update as arguments of ``HeadRecorder.record``; begins the next update.

        ``group``: the processes that train this policy together, each with its own steps and equally many
        epochs; all of them call this, and get the same. Empty where nothing was measured.
        """
        return record_arguments(self.measured(group), self._heads.names)

    def measured(self, group: dist.ProcessGroup | None = None) -> MeterResult:
        """The same as ``result``, by head."""
        if not self._update.whole_epochs and (self._partial_epochs or self.epoch_steps is None):
            self.end_epoch()
        update, failure, found = self._update, self._failure, MeterResult()
        # After a failure here, the other processes still have that many: as said, or as in the update before.
        epochs = self._said_epochs or self._epochs
        self._failure, self._said_epochs, self._epochs = None, 0, update.whole_epochs or epochs
        with self._guard, torch.no_grad():
            found = update.result(ALONE if group is None else GroupExchange(group), failure, epochs)
            self._former = found.advantage_sums
            self._report(found)
        self._update = MeteredUpdate(self._layout, self._clip, self._former)
        return found

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run a step of the measurement; its first error ends that of the update, and nothing else."""
        if self._failure is None:
            try:
                with torch.no_grad():
                    step()
            except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self._failure = error

    @torch.no_grad()
    def _add(
        self,
        logits: PerHead,
        masks: PerHead | None = None,
        *,
        valid: Tensor | None = None,
        consulted: Tensor | None = None,
        actions: Tensor | None = None,
        advantages: Tensor | None = None,
        log_probs: Tensor | None = None,
        old_log_probs: Tensor | None = None,
    ) -> None:
        rows = logit_rows(logits, self._layout)
        if rows.device != self._layout.segment.device:
            self._place(rows.device)
        steps, heads = len(rows), len(self._layout.sizes)
        chosen = None if actions is None else step_values(actions, steps, "actions", heads).long()
        used = None if consulted is None else step_values(consulted, steps, "consulted", heads) != 0
        allowed = self._masks(rows, masks, chosen, used)
        counted = None if valid is None else step_values(valid, steps, "valid") != 0
        found, distributions = evaluate(rows, allowed, counted, self._layout)
        paid = None if advantages is None else step_values(advantages, steps, "advantages").float()
        ratio = importance_ratio(log_probs, old_log_probs, found.choice)
        self._update.add(
            found, distributions, Extras(ratio, chosen, paid, masks is not None or consulted is not None)
        )
        self._end_where_due()

    def _add_rollout(self, actions: Tensor, advantages: Tensor, masks: PerHead | None) -> None:
        layout, device = self._layout, self._layout.segment.device
        paid = advantages.reshape(-1).to(device)
        chosen = step_values(actions, len(paid), "actions", len(layout.sizes)).to(device).long()
        everything = paid.new_zeros(len(paid), layout.total)
        allowed = torch.ones_like(everything, dtype=torch.bool)
        if masks is not None:
            allowed = mask_rows(masks, layout, everything)
        choice = masks_of_rows(allowed, None, layout).choice
        self._update.add_advantages(advantage_sums(choice, chosen, paid, layout))

    def _masks(
        self, rows: Tensor, given: PerHead | None, actions: Tensor | None, consulted: Tensor | None
    ) -> StepMasks:
        layout, operations = self._layout, self._of_operations
        if given is None:
            masks = inferred_masks(rows, layout)
        else:
            masks = mask_rows(given, layout, rows, 1 if operations is None else operations.number)
            if not self._checked:
                require_some_choice(masks, layout)
        if operations is None:
            return masks_of_rows(masks, consulted, layout)
        if actions is None:
            raise ValueError(
                "actions are missing; with operations, give the sampled actions of every step, (…, H)"
            )
        sampled = actions[:, operations.head]
        if masks.ndim > 2:
            return masks_of_operations(masks, sampled, operations, layout)
        used = consulted if operations.consult is None else operations.consult[sampled]
        return masks_of_rows(masks, used, layout)

    def _end_where_due(self) -> None:
        due = self.epoch_steps
        if due is not None and self._update.rows >= due:
            if self._update.rows > due:
                raise ValueError(
                    f"minibatches of one epoch have {self._update.rows} steps, epoch_steps is {due}; "
                    "they must add up to whole epochs"
                )
            self._update.end_epoch()

    def _end_epoch(self) -> None:
        self._update.end_epoch()

    def _place(self, device: torch.device) -> None:
        """Heads and operations on the device of the logits."""
        sizes = [head.choices for head in self._heads]
        self._layout = HeadLayout(self._heads.names, sizes, device)
        self._of_operations = OperationLayout.of(self._operations, self._layout)

    def _report(self, found: MeterResult) -> None:
        """Warn once of masks that allow nothing."""
        if found.empty_masks and not self._warned:
            self._warned = True
            listed = ", ".join(f"{name} at {count} steps" for name, count in found.empty_masks.items())
            _LOG.warning("masks allow no action of heads %s; such heads are not measured", listed)


def importance_ratio(log_probs: Tensor | None, old: Tensor | None, choice: Tensor) -> Tensor | None:
    """(S, H) or (S, 1) from log-probabilities (…, H) or (…); 1 where nothing was decided."""
    if log_probs is None or old is None:
        return None
    steps, heads = choice.shape
    joint = log_probs.numel() == steps and heads > 1
    width = None if joint else heads
    ratio = (
        step_values(log_probs, steps, "log_probs", width) - step_values(old, steps, "old_log_probs", width)
    ).exp()
    decided = choice.any(1, keepdim=True) if joint else choice
    return torch.where(decided, ratio.reshape(decided.shape), 1.0)


def _declared(heads: DeclaresHeads | Heads | Mapping[str, SupportsIndex]) -> Heads:
    if isinstance(heads, Heads):
        return heads
    return Heads.of(heads) if isinstance(heads, Mapping) else heads.heads


def _nothing() -> None:
    """Nobody counts errors."""
