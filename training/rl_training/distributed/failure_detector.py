"""Learning that another rank is gone, whatever this one is doing.

An exchange fails at once when a rank is gone, but a rank may be hours from its next one. So each rank but the
last waits, in a thread, for word from the next rank, and each but the first sends word to the one before: that
all ranks above have ended, or which one is gone. A connection that breaks is word, too. Rank 0 hears of all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist

_FOREVER = timedelta(days=365)
_NOBODY = -1
_PATIENCE = 1.0


class FailureDetector:
    """The chain of ranks; made by all of them together, after they have met."""

    def __init__(self, rank: int, size: int, timeout: timedelta) -> None:
        self._rank = rank
        self._last = size - 1
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, lost: Callable[[int], None]) -> None:
        """Call ``lost`` with the number of a rank above this one that is gone, unless this one has ended."""
        # A daemon: a rank that hangs must not keep this one from ending.
        self._thread = threading.Thread(target=self._run, args=(lost,), name="peers", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """This rank has ended as it should: nothing is lost from now on."""
        self._ended.set()

    def leave(self) -> None:
        """Let the word reach the rank before; one that never comes is waited for shortly."""
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self, lost: Callable[[int], None]) -> None:
        gone = self._word()
        if gone == _NOBODY:
            self._ended.wait()
        elif not self._ended.is_set():
            lost(gone)
        if self._rank:
            self._pass_on(gone)

    def _word(self) -> int:
        if self._rank == self._last:
            return _NOBODY
        word = torch.empty(1, dtype=torch.int64)
        try:
            work = dist.irecv(word, src=self._rank + 1, group=self._group)
            assert work is not None
            # A rank that works has nothing to say for as long as the run takes.
            work.wait(_FOREVER)
        except RuntimeError:
            return self._rank + 1
        return int(word)

    def _pass_on(self, gone: int) -> None:
        try:
            dist.send(torch.tensor([gone]), dst=self._rank - 1, group=self._group)
        except RuntimeError:
            return  # the rank before is gone as well; the next exchange says so
