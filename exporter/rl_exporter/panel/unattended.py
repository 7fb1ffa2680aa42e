"""``rl-exporter watch --notify``: watches runs without a panel, and posts what the rules would page for."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from rl_exporter.notify.destination import Destination
from rl_exporter.notify.events import Message
from rl_exporter.notify.fleet import Answer
from rl_exporter.notify.formats import text
from rl_exporter.notify.notifier import LOOK_SECONDS, Deliveries, Judgement
from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.panel.sources import in_thread
from rl_exporter.view.cells import printable_lines

_CONCURRENT_POLLS = 16
"""More would open that many connections at once for a fleet of hundreds of runs."""

_FIRST_LOOK_SECONDS = 1.0
"""After this time most runs have answered for the first time."""

Discover = Callable[[], tuple[Sequence[ObservedRun], Sequence[str]]]
"""The runs that are listed now, known ones as the same objects, and problems of the list. May block."""


class UnattendedWatch:
    """Polls the runs that ``discover`` lists, judges them every ``every`` seconds, and posts what is new."""

    def __init__(
        self,
        discover: Discover,
        destinations: Sequence[Destination],
        every: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._discover, self._every, self._clock = discover, every, clock
        self._hosts = ", ".join(destination.host for destination in destinations)
        self._deliveries = Deliveries(destinations)
        self._judgement = Judgement()
        self._slots = asyncio.Semaphore(_CONCURRENT_POLLS)
        self._runs: Mapping[str, ObservedRun] = {}
        self._polling: dict[ObservedRun, asyncio.Task[None]] = {}
        self._problems: Sequence[str] = ()

    def run(self) -> None:
        """Watch until SIGINT or SIGTERM."""
        try:
            asyncio.run(self._until_told())
        finally:
            self._deliveries.close()

    async def _until_told(self) -> None:
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told.set)
        _print(f"messages go to {self._hosts}; Ctrl-C ends the watch\n")
        delay = min(_FIRST_LOOK_SECONDS, self._every)
        while not told.is_set():
            self._list(*await in_thread(self._discover))
            self._look()
            try:
                await asyncio.wait_for(told.wait(), delay)
            except TimeoutError:
                delay = self._every

    def _list(self, runs: Sequence[ObservedRun], problems: Sequence[str]) -> None:
        """Poll the runs that are listed. While the list has problems, a run that it lacks counts as listed."""
        listed = {run.source.name: run for run in runs}
        self._runs = {**self._runs, **listed} if problems else listed
        for problem in problems:
            if problem not in self._problems:
                sys.stderr.write(f"rl-exporter watch: {problem}\n")
        self._problems = problems
        for run in self._polling.keys() - set(self._runs.values()):
            self._polling.pop(run).cancel()
        for run in self._runs.values():
            if run not in self._polling:
                self._polling[run] = asyncio.create_task(self._poll(run))

    async def _poll(self, run: ObservedRun) -> None:
        while True:
            async with self._slots:
                delay = await run.poll()
            await asyncio.sleep(delay)

    def _look(self) -> None:
        answers = {name: answer for name, run in self._runs.items() for answer in _answer(run)}
        for message in self._judgement.look(answers, self._clock()):
            self._deliveries.put(message)
            _print(_shown(message))


def _answer(run: ObservedRun) -> Iterator[Answer]:
    """How the last poll went; nothing before the first."""
    fetched = run.fetched
    if run.problem is not None:
        yield Answer(None, scope=run.source.scope)
    elif fetched is not None:
        yield Answer(fetched.snapshot, fetched.clock_offset, run.source.scope)


def _shown(message: Message) -> str:
    first, *others = printable_lines(text(message))
    return "\n".join([f"{time.strftime('%H:%M:%S')}  {first}", *(f"          {line}" for line in others), ""])


def _print(lines: str) -> None:
    sys.stdout.write(lines)
    sys.stdout.flush()
