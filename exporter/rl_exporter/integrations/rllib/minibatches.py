"""An update as a learner goes through it: its clock, its epochs, and the ratios of all heads together."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from rl_exporter.integrations.meter.layout import exact_dtype


class UpdateClock:
    """Wall time of a learner: of its updates, and from the end of one to the beginning of the next."""

    def __init__(self) -> None:
        self._began = self._ready = time.perf_counter()
        self._ended: float | None = None

    def begin(self) -> None:
        """The learner was called for an update."""
        self._began = self._ready = time.perf_counter()

    def batch_ready(self) -> None:
        """The episodes have become a batch; optimisation begins."""
        self._ready = time.perf_counter()

    def durations(self) -> dict[str, float]:
        """Seconds; there is no rollout to speak of before the first update."""
        update = {"update_duration": time.perf_counter() - self._ready}
        return update if self._ended is None else {**update, "rollout_duration": self._began - self._ended}

    def end(self) -> None:
        """The update is over."""
        self._ended = time.perf_counter()


class EpochCursor:
    """Follows RLlib's minibatches, which have one size and so run across the ends of epochs.

    A minibatch holds the rest of one epoch, then the beginning of the next one.
    """

    def __init__(self) -> None:
        self._rows: int | None = None
        self._position = 0

    def begin(self, rows: int | None) -> None:
        """An update of so many rows begins; None: not known, so that no epoch ends."""
        self._rows, self._position = rows, 0

    def parts(self, rows: int) -> Iterator[tuple[slice, bool]]:
        """The parts of a minibatch that lie in one epoch each, and whether the epoch ends with them."""
        start = 0
        while start < rows:
            left = rows if self._rows is None else self._rows - self._position
            size = min(rows - start, left)
            ends = self._rows is not None and size == left
            self._position = 0 if ends else self._position + size
            yield slice(start, start + size), ends
            start += size


class RatioNumbers(NamedTuple):
    """What importance ratios of an update say, over its whole epochs."""

    clipped_share: float | None = None
    kl_divergence: float | None = None
    """Nats, mean of (ratio - 1 - log ratio) over the last whole epoch."""


class JointRatios:
    """Importance ratios of all heads together: RLlib clips those."""

    def __init__(self, clip: float) -> None:
        self._clip = clip
        self._open: list[Tensor] = []
        self._epochs: list[Tensor] = []

    @property
    def whole_epochs(self) -> int:
        """Epochs that have ended."""
        return len(self._epochs)

    def add(self, log_ratio: Tensor, valid: Tensor) -> None:
        """Log-ratios (…) of a minibatch, and which of its steps are none of padding, (…) bool."""
        exact = exact_dtype(log_ratio.device)
        moved = log_ratio.to(exact).expm1()  # ratio - 1
        clipped = (moved.abs() > self._clip) & valid
        divergence = torch.where(valid, moved - log_ratio, 0.0)
        self._open.append(torch.stack([part.sum(dtype=exact) for part in (valid, clipped, divergence)]))

    def end_epoch(self) -> None:
        """Every row of the rollout was added once since the last call."""
        if self._open:
            self._epochs.append(torch.stack(self._open).sum(0))
            self._open = []

    def take(self, epochs: int, group: dist.ProcessGroup | None) -> Tensor | None:
        """Steps, clipped steps and divergence of each epoch, (epochs, 3), on their way to the host.

        They are there once the host has waited for anything that the device was given later. Begins the next
        update.
        """
        kept, self._open, self._epochs = self._epochs[:epochs], [], []
        if not kept:
            return None
        sums = torch.stack(kept)
        if group is not None:
            dist.all_reduce(sums, group=group)
        return torch.empty(sums.shape, dtype=sums.dtype, pin_memory=sums.is_cuda).copy_(sums, non_blocking=True)


def ratio_numbers(sums: Tensor | None) -> RatioNumbers:
    """From what ``JointRatios.take`` has brought to the host."""
    rows: Sequence[Sequence[float]] = [] if sums is None else sums.tolist()
    steps = sum(row[0] for row in rows)
    if not steps or not rows[-1][0]:
        return RatioNumbers()
    return RatioNumbers(sum(row[1] for row in rows) / steps, rows[-1][2] / rows[-1][0])
