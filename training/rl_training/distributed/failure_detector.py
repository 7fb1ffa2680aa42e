"""Detects that another rank has died, whatever this rank is doing.

An exchange fails at once when a rank has died, but the next exchange may be hours away. So the ranks form a
chain: each rank but the last waits, in a thread, for a report from the next one, and each rank but the first
reports to the one before. A report says that all ranks above have finished, or which one died. A connection
that breaks counts as a report that the rank at its other end has died. Rank 0 hears of every rank in this way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

_AS_LONG_AS_THE_RUN = timedelta(days=365)
_ALL_FINISHED = -1
"""The report that no rank above has died; any other report is the number of the rank that has."""
_DELIVERY_SECONDS = 1.0


class FailureDetector:
    """One link of the chain of ranks. All ranks create theirs together, once they have met."""

    def __init__(self, rank: int, size: int, timeout: timedelta) -> None:
        self._rank = rank
        self._last = size - 1
        # Its own group: reports must not mix with exchanges of the trainer, and nccl carries no host tensors.
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, lost: Callable[[int], None]) -> None:
        """Call ``lost`` with the number of a rank above this one that died, unless this one has finished."""
        # A daemon, so that a rank that hangs cannot keep this process from ending.
        self._thread = threading.Thread(target=self._run, args=(lost,), name="failure-detector", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Record that this rank has finished: a rank that leaves from now on is not lost."""
        self._finished.set()

    def leave(self) -> None:
        """Give the report time to reach the rank before; wait no longer than a second for it."""
        if self._thread is not None:
            self._thread.join(_DELIVERY_SECONDS)

    def _run(self, lost: Callable[[int], None]) -> None:
        report = self._receive_report()
        if report == _ALL_FINISHED:
            self._finished.wait()
        elif not self._finished.is_set():
            lost(report)
        if self._rank:
            self._send_report(report)

    def _receive_report(self) -> int:
        if self._rank == self._last:
            return _ALL_FINISHED
        report = torch.empty(1, dtype=torch.int64)
        try:
            work = dist.irecv(report, src=self._rank + 1, group=self._group)
            assert work is not None
            # The timeout of the group is for exchanges; a healthy rank reports nothing while the run lasts.
            work.wait(_AS_LONG_AS_THE_RUN)
        except RuntimeError:
            return self._rank + 1
        return int(report)

    def _send_report(self, report: int) -> None:
        try:
            dist.send(torch.tensor([report]), dst=self._rank - 1, group=self._group)
        except RuntimeError:
            return  # the rank before has died as well, which the next exchange reports
