"""Watches the snapshots of a run in its own process, and posts what the alert rules would page for."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rl_exporter.log import exporter_log
from rl_exporter.notify.delivery import END_SECONDS, Delivery
from rl_exporter.notify.destination import Destination
from rl_exporter.notify.events import Announcements, Message
from rl_exporter.notify.fleet import Answer, FleetJudge
from rl_exporter.notify.formats import body
from rl_exporter.snapshot import SanctumSnapshot
from rl_exporter.view.cells import number

LOOK_SECONDS = 5.0
"""Between two looks at the run. A look takes the snapshot that scrapes take, and costs microseconds."""

_LOG = exporter_log()


class Judgement:
    """What is remembered between looks: what fires, and what was said. Not thread-safe."""

    def __init__(self) -> None:
        self._fleet = FleetJudge()
        self._announcements = Announcements()

    def look(self, answers: Mapping[str, Answer], now: float) -> list[Message]:
        """The messages that a look at Unix time ``now`` leads to, with how their runs do."""
        found = self._announcements.messages(self._fleet.look(answers, now), now)
        return [_with_context(message, answers.get(message.source)) for message in found]


def _with_context(message: Message, answer: Answer | None) -> Message:
    seen = answer.snapshot if answer else None
    if seen is None or seen.episode_return is None:
        return message
    best = "" if seen.episode_return_max is None else f", its best so far {number(seen.episode_return_max)}"
    return replace(message, context=f"return {number(seen.episode_return)}{best}")


class Deliveries:
    """Delivers each message to every destination, in its format."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._deliveries = [(destination.format, Delivery(destination)) for destination in destinations]

    def put(self, message: Message) -> None:
        """Queue a message for every destination."""
        for form, delivery in self._deliveries:
            delivery.put(body(message, form))

    def finish(self) -> None:
        """End once what is queued is delivered, or soon, without waiting for it here."""
        for _, delivery in self._deliveries:
            delivery.finish()

    def close(self, seconds: float = END_SECONDS) -> None:
        """Wait until all is delivered; all destinations together get ``seconds``."""
        deadline = time.monotonic() + seconds
        for _, delivery in self._deliveries:
            delivery.close(max(deadline - time.monotonic(), 0.0))


class Notifier:
    """Looks at a run of this process every few seconds on a thread, until ``close``.

    ``source`` names where the run answers; ``judgement`` is that of a notifier that this one replaces.
    """

    def __init__(
        self,
        snapshot: Callable[[], SanctumSnapshot],
        destinations: Sequence[Destination],
        *,
        source: str = "",
        every: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.time,
        judgement: Judgement | None = None,
    ) -> None:
        self.judgement = judgement or Judgement()
        self._snapshot, self._source, self._clock = snapshot, source, clock
        self._deliveries = Deliveries(destinations)
        self._every = every
        self._ended = threading.Event()
        self._looking = threading.Lock()
        self._failed = False
        threading.Thread(target=self._watch, name="rl-exporter judge", daemon=True).start()

    def run_ended(self) -> None:
        """Look once more, at how the run has ended. Raises nothing; the messages are on their way."""
        if not self._ended.is_set():
            self._ended.set()
            self._look()

    def give_way(self) -> None:
        """Look no more: another notifier takes over what was said."""
        self._ended.set()
        self._deliveries.finish()

    def close(self, seconds: float = END_SECONDS) -> None:
        """Wait for messages that are on their way, ``seconds`` at most."""
        self.run_ended()
        self._deliveries.close(seconds)

    def _watch(self) -> None:
        self._look()
        while not self._ended.wait(self._every):
            self._look()

    def _look(self) -> None:
        """Look, and queue what there is to say. An error of ours is no reason to end anything."""
        try:
            with self._looking:
                answer = {self._source: Answer(self._snapshot())}
                for message in self.judgement.look(answer, self._clock()):
                    # Its address alone may be 127.0.0.1, and the reader somewhere else.
                    context = "; ".join(part for part in (message.context, f"on {platform.node()}") if part)
                    self._deliveries.put(replace(message, context=context))
        except Exception as error:  # noqa: BLE001 - see above
            if not self._failed:
                self._failed = True
                _LOG.warning("messages about the run fail: %s: %s", type(error).__name__, error)
