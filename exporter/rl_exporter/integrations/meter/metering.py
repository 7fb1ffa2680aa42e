"""What the meters for PyTorch and for NumPy do alike: it imports neither."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rl_exporter.heads import Heads
from rl_exporter.integrations.meter.meter_result import MeterResult
from rl_exporter.log import exporter_log

_LOG = exporter_log()

NOTHING = -1
"""In place of a number of epochs: of a process that failed, or saw no step in an update."""


def common_epochs(by_process: Iterable[int]) -> int:
    """Whole epochs that count: those of the process that finished the fewest, where it saw a step."""
    return min((epochs for epochs in by_process if epochs != NOTHING), default=0)


class Epochs(Protocol):
    """An update that takes minibatches."""

    @property
    def rows(self) -> int:
        """Steps of the present epoch so far."""

    def end_epoch(self) -> None:
        """The present epoch is whole."""


class Metering:
    """Ends epochs where they are due, and warns once of masks that allow nothing. ``warned``: not even once."""

    def __init__(self, heads: Heads, epoch_steps: int | None, *, warned: bool) -> None:
        self._heads = heads
        self._warned = warned
        self.epoch_steps = epoch_steps
        """Steps of an epoch; None: ``end_epoch`` says where one ends. A loop may change it between updates."""

    @property
    def heads(self) -> Heads:
        """The heads that it measures, in order."""
        return self._heads

    def _end_where_due(self, update: Epochs) -> None:
        due = self.epoch_steps
        if due is not None and update.rows >= due:
            if update.rows > due:
                raise ValueError(
                    f"minibatches of one epoch have {update.rows} steps, epoch_steps is {due}; "
                    "they must add up to whole epochs"
                )
            update.end_epoch()

    def _report(self, found: MeterResult) -> None:
        if found.empty_masks and not self._warned:
            self._warned = True
            listed = ", ".join(f"{name} at {count} steps" for name, count in found.empty_masks.items())
            _LOG.warning("masks allow no action of heads %s; such heads are not measured", listed)
