"""The meter: minibatches in, the numbers of one update out, with one transfer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, SupportsIndex

import torch
import torch.distributed as dist
from torch import Tensor

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter import compiled
from rl_exporter.integrations.meter.arguments import record_arguments
from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.meter.declaration import DeclaresHeads, declared_heads, error_counter
from rl_exporter.integrations.meter.exchange import ALONE, GroupExchange
from rl_exporter.integrations.meter.form import PerHead, logit_rows
from rl_exporter.integrations.meter.gradients import Parameters, gradient_norms
from rl_exporter.integrations.meter.intake import Intake
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums
from rl_exporter.integrations.meter.meter_result import MeterResult
from rl_exporter.integrations.meter.metering import Metering
from rl_exporter.integrations.meter.update import MeteredUpdate


class HeadMeter(Metering):
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
        super().__init__(declared_heads(heads), epoch_steps, warned=lenient)
        self._guard = ErrorGuard(count_error or error_counter(heads))
        self._operations, self._clip = operations, clip
        self._former: AdvantageSums | None = None
        self._place(torch.device("cpu"))
        self._update = MeteredUpdate(self._layout, self._clip)
        self._failure: Exception | None = None
        self._partial_epochs = partial_epochs
        self._checked = lenient
        self._token = compiled.register(self)

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
            compiled.add(self._token, self._layout.names, logits, masks, given)
        else:
            self.add_eagerly(logits, masks, given)

    def add_eagerly(self, logits: PerHead, masks: PerHead | None, given: Mapping[str, Tensor | None]) -> None:
        """What ``add`` does, outside a compiled graph."""
        if not self._checked:
            with self._exactly():
                self._add(logits, masks, given)
            self._checked = True
            return
        self._attempt(partial(self._add, logits, masks, given))

    def add_rollout(self, actions: Tensor, advantages: Tensor, masks: PerHead | None = None) -> None:
        """What a whole rollout sampled, (…, H), and its normalized advantages, (…), for the advantage margin.

        Instead of ``actions`` and ``advantages`` of each ``add``, for loops whose minibatches lack them.
        ``masks`` as for ``add``; left out, every step is a choice step of each head with two choices or more.
        """
        self._attempt(lambda: self._update.add_advantages(self._intake.rollout(actions, advantages, masks)))

    def end_epoch(self) -> None:
        """Every step of the rollout was added once since the last call."""
        self._attempt(self._update.end_epoch)

    @property
    def whole_epochs(self) -> int:
        """Epochs of this update that have ended."""
        return self._update.whole_epochs

    def keep_epochs(self, number: int) -> None:
        """Count only the first ``number`` whole epochs of this update in its means.

        State information stays that of the last whole epoch, kept or not.
        """
        self._update.keep_epochs(number)

    def gradients(self, owners: Parameters | Mapping[str, Parameters], *, ahead: int = 0) -> None:
        """Norms of the gradients that a backward pass left; call it before they are clipped.

        ``owners``: the layer that puts out all logits, one row each, or modules or parameters by head. They
        belong to the last minibatch; for code that adds those of an epoch at its end, to that ``ahead`` of it.
        """
        self._attempt(lambda: self._update.add_gradients(gradient_norms(owners, self._layout), ahead))

    def result(self, group: dist.ProcessGroup | None = None) -> dict[str, Any]:
        """The numbers of the update as arguments of ``HeadRecorder.record``; begins the next update.

        ``group``: the processes that train this policy together, each with its own steps; all of them call
        this, and get the same. Where they finished different numbers of epochs, the smallest counts; one
        without any step adds nothing. Empty where nothing was measured.
        """
        return record_arguments(self.measured(group), self._heads.names)

    def measured(self, group: dist.ProcessGroup | None = None) -> MeterResult:
        """The same as ``result``, by head."""
        if not self._update.whole_epochs and (self._partial_epochs or self.epoch_steps is None):
            self.end_epoch()
        update, failure, found = self._update, self._failure, MeterResult()
        self._failure = None
        with self._guard, torch.no_grad(), self._exactly():
            found = update.result(ALONE if group is None else GroupExchange(group), failure)
            self._former = found.advantage_sums
            self._report(found)
        self._update = MeteredUpdate(self._layout, self._clip, self._former)
        return found

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run a step of the measurement; its first error ends that of the update, and nothing else."""
        if self._failure is None:
            try:
                with torch.no_grad(), self._exactly():
                    step()
            except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
                self._failure = error

    def _exactly(self) -> AbstractContextManager[object]:
        """Products of the measurement in their own precision, also where the loop calls it under autocast."""
        kind = self._layout.segment.device.type
        known = torch.amp.is_autocast_available(kind)
        return torch.autocast(kind, enabled=False) if known else nullcontext()

    @torch.no_grad()
    def _add(self, logits: PerHead, masks: PerHead | None, given: Mapping[str, Tensor | None]) -> None:
        rows = logit_rows(logits, self._layout)
        # Also for no rows: processes exchange what lies on the same kind of device.
        if rows.device != self._layout.segment.device:
            self._place(rows.device)
            self._update.move_to(self._layout)
        if not len(rows):
            return
        take = self._intake.minibatch if self._checked else partial(self._intake.checked, logits)
        self._update.add(take(rows, masks, given))
        self._end_where_due(self._update)

    def _place(self, device: torch.device) -> None:
        """Heads and operations on the device of the logits."""
        self._layout = HeadLayout(self._heads.names, [head.choices for head in self._heads], device)
        self._intake = Intake(self._layout, self._operations)
