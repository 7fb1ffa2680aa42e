"""The meter: minibatches in, the numbers of one update out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter.arguments import record_arguments
from rl_exporter.integrations.meter.consulting import Operations
from rl_exporter.integrations.meter.declaration import DeclaresHeads, declared_heads, error_counter
from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.meter.meter_result import MeterResult
from rl_exporter.integrations.meter.metering import Metering
from rl_exporter.integrations.numpy.exchange import Exchange, Gather
from rl_exporter.integrations.numpy.form import PerHead
from rl_exporter.integrations.numpy.gradients import Gradients, by_head, head_gradient_norms
from rl_exporter.integrations.numpy.held import held, on_device
from rl_exporter.integrations.numpy.intake import Given, Intake
from rl_exporter.integrations.numpy.layout import HeadLayout
from rl_exporter.integrations.numpy.totals import AdvantageSums
from rl_exporter.integrations.numpy.update import MeteredUpdate


class HeadMeter(Metering):
    """Measures the heads of a policy from what its loss computes anyway, update by update.

    ``add`` every minibatch; ``end_epoch`` after each pass over the rollout; ``result`` once an update, for
    ``HeadRecorder.record``. An epoch that was cut short, because the KL divergence grew too large, counts in no
    mean. Without ``end_epoch`` all minibatches of an update count as one epoch; with ``epoch_steps`` the meter
    ends an epoch by itself once it has seen so many steps. ``partial_epochs``: an update without a whole epoch
    is measured at the steps that it did visit, a random part of the rollout where minibatches are drawn at
    random.

    ``heads`` is the recorder, or what ``rl_exporter.serve`` takes. ``operations`` describes a head that selects
    which others are used. ``clip`` is PPO's clip range.

    It takes arrays of NumPy and anything with ``__array__``, and computes in float64. Of JAX's arrays it keeps
    references, and reads them in ``result``, where the host then waits for the device: do not donate them.
    The first ``add`` reads what it gets at once, and raises ValueError or TypeError for what does not fit;
    later errors are logged once, counted with ``count_error`` (by default that of the recorder), and cost the
    numbers of that update, never the training. A ``lenient`` meter raises nothing at all, for code between a
    library and its user.
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
        self._layout = HeadLayout(self._heads.names, [head.choices for head in self._heads])
        self._intake = Intake(self._layout, operations, clip)
        self._update = MeteredUpdate(self._layout)
        self._later: list[Callable[[], None]] = []
        self._failure: Exception | None = None
        self._former: AdvantageSums | None = None
        self._partial_epochs = partial_epochs
        self._checked = lenient

    def add(
        self,
        logits: PerHead,
        masks: PerHead | None = None,
        *,
        valid: npt.ArrayLike | None = None,
        consulted: npt.ArrayLike | None = None,
        actions: npt.ArrayLike | None = None,
        advantages: npt.ArrayLike | None = None,
        log_probs: npt.ArrayLike | None = None,
        old_log_probs: npt.ArrayLike | None = None,
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
        if self._checked:
            self._attempt(self._add, logits, masks, given)
            return
        with np.errstate(all="ignore"):
            self._add(logits, masks, given)
        self._checked = True

    def add_rollout(
        self, actions: npt.ArrayLike, advantages: npt.ArrayLike, masks: PerHead | None = None
    ) -> None:
        """What a whole rollout sampled, (…, H), and its normalized advantages, (…), for the advantage margin.

        Instead of ``actions`` and ``advantages`` of each ``add``, for loops whose minibatches lack them.
        ``masks`` as for ``add``; left out, every step is a choice step of each head with two choices or more.
        """
        self._attempt(self._add_rollout, actions, advantages, masks)

    def end_epoch(self) -> None:
        """Every step of the rollout was added once since the last call."""
        self._attempt(self._end_epoch)

    def gradients(self, given: Gradients, *, axis: int = 0) -> None:
        """Keep the norms of the gradients of one optimiser step; give them before they are clipped.

        ``given``: arrays or pytrees by head; or those of the layer that puts out all logits, Σn numbers along
        ``axis``, which is 0 for weights like those of PyTorch, -1 for the kernels of Flax and Haiku.
        """
        self._attempt(
            partial(self._add_gradients, axis=axis), given, flatten=partial(by_head, layout=self._layout)
        )

    def result(self, gather: Gather | None = None) -> dict[str, Any]:
        """The numbers of the update as arguments of ``HeadRecorder.record``; begins the next update.

        ``gather``, such as ``jax.experimental.multihost_utils.process_allgather``: for processes that train
        this policy together, each with its own steps; all of them call this, and get the same. Where they
        finished different numbers of epochs, the smallest counts; one without any step adds nothing. Empty
        where nothing was measured.
        """
        return record_arguments(self.measured(gather), self._heads.names)

    def measured(self, gather: Gather | None = None) -> MeterResult:
        """The same as ``result``, by head."""
        self._catch_up()
        if not self._update.whole_epochs and (self._partial_epochs or self.epoch_steps is None):
            self.end_epoch()
        update, failure, found = self._update, self._failure, MeterResult()
        self._failure = None
        with self._guard, np.errstate(all="ignore"):
            found = update.result(Exchange(gather), failure)
            self._former = found.advantage_sums
            self._report(found)
        self._update = MeteredUpdate(self._layout, self._former)
        return found

    def _attempt(
        self, step: Callable[..., None], *given: Any, flatten: Callable[[Any], Any] | None = None
    ) -> None:
        """Run a step of the measurement; its first error ends that of the update, and nothing else.

        From the first array of JAX on, steps run at the end of the update. Wide heads would not fit so long.
        """
        if self._failure is not None:
            return
        try:
            with np.errstate(all="ignore"):
                parts = given if flatten is None else tuple(map(flatten, given))
                if self._later or (self._layout.width <= WIDE and any(map(on_device, parts))):
                    self._later.append(partial(step, *map(held, parts)))
                else:
                    step(*parts)
        except Exception as error:  # noqa: BLE001 - telemetry never stops training, whatever it raises
            self._failure = error

    def _catch_up(self) -> None:
        """Run the steps that waited for the device."""
        steps, self._later = self._later, []
        for step in steps:
            self._attempt(step)

    def _add(self, logits: PerHead, masks: PerHead | None, given: Given) -> None:
        self._update.add(self._intake.minibatch(logits, masks, given, check=not self._checked))
        self._end_where_due(self._update)

    def _add_rollout(self, actions: npt.ArrayLike, advantages: npt.ArrayLike, masks: PerHead | None) -> None:
        self._update.add_advantages(self._intake.rollout(actions, advantages, masks))

    def _add_gradients(self, given: Any, axis: int) -> None:
        self._update.add_gradients(head_gradient_norms(given, self._layout, axis))

    def _end_epoch(self) -> None:
        self._update.end_epoch()
