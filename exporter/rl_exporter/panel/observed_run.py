"""A run as its watcher knows it: the last snapshot, its age, and why there is no newer one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from rl_exporter.client.fetch import FetchedSnapshot, UnreachableError
from rl_exporter.panel.sources import Backoff, Source, in_thread
from rl_exporter.snapshot import RunState, SanctumSnapshot
from rl_exporter.view.cells import Tone, age
from rl_exporter.view.findings import Finding
from rl_exporter.view.history import History
from rl_exporter.view.run_view import RunView, run_view
from rl_exporter.view.verdict import Status, run_status, severity

_GRACE = 1.0
"""Seconds to wait beyond the source's own time limit, so that its own message, which says more, comes first."""


class ObservedRun:
    """Polls one source and keeps its last snapshot. Not thread-safe.

    ``clock`` gives Unix seconds, to compare with timestamps of the run; ``monotonic`` measures delays and ages,
    which must not jump when somebody sets the clock. Tests give their own.
    """

    def __init__(
        self,
        source: Source,
        backoff: Backoff,
        *,
        timeout: float,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self.problem: str | None = None
        """Why the last poll failed; None when it succeeded, or before the first."""
        self._backoff = backoff
        self._timeout = timeout
        self._clock, self._monotonic = clock, monotonic
        self._history = History()
        self._fetched: FetchedSnapshot | None = None
        self._fetched_at = self._next_poll = monotonic()
        self._pending: asyncio.Future[FetchedSnapshot] | None = None

    @property
    def snapshot(self) -> SanctumSnapshot | None:
        """The last snapshot; None before the first."""
        return self._fetched.snapshot if self._fetched else None

    @property
    def fetched(self) -> FetchedSnapshot | None:
        """The last snapshot with the clock of its run; None before the first."""
        return self._fetched

    @property
    def status(self) -> Status:
        """The verdict on the last snapshot."""
        return run_status(self.snapshot)

    async def poll(self) -> float:
        """Read the source once. Returns the seconds until the next poll; raises nothing."""
        try:
            self._fetched = await self._read()
        except Exception as error:  # noqa: BLE001 - one broken source must not end the panel of all
            known = isinstance(error, UnreachableError)
            self.problem = (
                str(error) if known else f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            )
            delay = self._backoff.failed()
        else:
            self.problem = None
            self._history.add(self._fetched.snapshot)
            self._fetched_at = self._monotonic()
            delay = self._backoff.succeeded()
        self._next_poll = self._monotonic() + delay
        return delay

    async def _read(self) -> FetchedSnapshot:
        """Read on a thread. While one hangs, as a name lookup may, no second one starts: they would pile up."""
        if self._pending is None or self._pending.done():
            self._pending = in_thread(self.source.read)
        await asyncio.wait({self._pending}, timeout=self._timeout + _GRACE)
        if not self._pending.done():
            raise UnreachableError(f"no answer within {self._timeout:g} s")
        return self._pending.result()

    def view(self) -> RunView | None:
        """The last snapshot as it is shown now; None before the first."""
        if self._fetched is None:
            return None
        return run_view(self._fetched.snapshot, self._clock() + self._fetched.clock_offset, self._history)

    def notice(self, *, listed: bool = True) -> Finding | None:
        """Why the picture may mislead: no data yet, stale, or of a run that ended. None when it is current.

        A run that is not ``listed`` any more is not asked any more.
        """
        if self.problem is None and listed:
            return (
                Finding("connecting", Tone.WARNING, "", f"to {self.source.name}")
                if self._fetched is None
                else None
            )
        wait = max(self._next_poll - self._monotonic(), 0.0)
        again = f"{self.problem}; trying again in {age(wait)}" if listed else "the run is no longer listed"
        if self._fetched is None:
            return Finding("no data", Tone.WARNING, "", again)
        old = age(self._monotonic() - self._fetched_at)
        if self._fetched.snapshot.run_state is not RunState.RUNNING:
            return Finding("ended", Tone.DIM, "", f"this is its last picture, {old} old; {again}")
        return Finding("stale", Tone.WARNING, "", f"this picture is {old} old: {again}")

    def sort_key(self) -> tuple[int, float, str]:
        """Sorts runs worst first, and runs of one status by their weakest head."""
        return *severity(self.snapshot), self.source.name


def worst_first(runs: Iterable[ObservedRun]) -> list[ObservedRun]:
    """Sort the runs, worst first."""
    return sorted(runs, key=ObservedRun.sort_key)
