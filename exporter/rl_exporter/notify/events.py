"""From what fires at each look to what is said: each alert once when it starts and once when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from rl_exporter.notify.alerts import FAILED, Firing, Severity, inhibits

_SEVERITIES = tuple(Severity)


@dataclass(frozen=True, slots=True)
class Event:
    """An alert that has started, or, with ``resolved`` (Unix time), one that is over."""

    alert: Firing
    resolved: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is said about one run after one look, the most urgent first; ``context``: how the run does."""

    run_id: str
    source: str
    at: float
    events: tuple[Event, ...]
    context: str = ""

    @property
    def firing(self) -> bool:
        """Whether any of its alerts has started."""
        return any(event.resolved is None for event in self.events)


class Announcements:
    """Remembers which alerts were said. Not thread-safe."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str, str, str], Firing] = {}

    def messages(self, firing: Iterable[Firing], now: float) -> list[Message]:
        """One message for each run of which something is new at Unix time ``now``.

        What another alert says better is not said; nor is the end of what was never said. A run that has failed
        is not said to be all right again.
        """
        present = {alert.key: alert for alert in firing}
        started = [
            alert
            for key, alert in present.items()
            if key not in self._said and not any(inhibits(other, alert) for other in present.values())
        ]
        ended = [alert for key, alert in self._said.items() if key not in present]
        for alert in ended:
            del self._said[alert.key]
        self._said |= {alert.key: alert for alert in started}
        events = [Event(alert) for alert in started]
        events += [Event(alert, resolved=now) for alert in ended if alert.name != FAILED.name]
        return list(_by_run(events, now))


def _by_run(events: list[Event], now: float) -> Iterator[Message]:
    def run_of(event: Event) -> tuple[str, str]:
        return event.alert.source, event.alert.run_id

    for (source, run_id), of_run in groupby(sorted(events, key=run_of), run_of):
        yield Message(run_id, source, now, tuple(sorted(of_run, key=_urgency)))


def _urgency(event: Event) -> tuple[bool, int, str]:
    return event.resolved is not None, _SEVERITIES.index(event.alert.severity), event.alert.head
