"""From what fires at each look to what is said: each alert once when it starts and once when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from rl_exporter.notify.alerts import DOWN, FAILED, VANISHED, Firing, Severity, inhibits

GATHER_SECONDS = 30.0
"""A lost network takes many runs with it, one after the other: what is lost within this time is one message."""

_SEVERITIES = tuple(Severity)
_LOST = frozenset({DOWN.name, VANISHED.name})


@dataclass(frozen=True, slots=True)
class Event:
    """An alert that has started, or, with ``resolved`` (Unix time), one that is over."""

    alert: Firing
    resolved: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What is said after one look, the most urgent first; ``context``: how the run does.

    ``run_id`` and ``source`` are those of its run, and empty where it says that several runs are lost.
    """

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
        self._gathering: dict[tuple[str, str, str, str], float] = {}
        """Runs that are lost and not said yet, and since when."""

    def messages(self, firing: Iterable[Firing], now: float) -> list[Message]:
        """One message for each run of which something is new at Unix time ``now``; one for all that are lost.

        What another alert says better is not said; nor is the end of what was never said. A run that has failed
        is not said to be all right again.
        """
        present = {alert.key: alert for alert in firing}
        started = [
            alert
            for key, alert in present.items()
            if key not in self._said and not any(inhibits(other, alert) for other in present.values())
        ]
        lost = self._gathered([alert for alert in started if alert.name in _LOST], now)
        started = [alert for alert in started if alert.name not in _LOST] + lost
        ended = [alert for key, alert in self._said.items() if key not in present]
        for alert in ended:
            del self._said[alert.key]
        self._said |= {alert.key: alert for alert in started}
        events = [Event(alert) for alert in started]
        events += [Event(alert, resolved=now) for alert in ended if alert.name != FAILED.name]
        return list(_by_run(events, now))

    def _gathered(self, lost: list[Firing], now: float) -> list[Firing]:
        """All runs that are lost, once the first of them has waited for the others."""
        self._gathering = {alert.key: self._gathering.get(alert.key, now) for alert in lost}
        if now - min(self._gathering.values(), default=now) < GATHER_SECONDS:
            return []
        self._gathering.clear()
        return lost


def _by_run(events: list[Event], now: float) -> Iterator[Message]:
    def run_of(event: Event) -> tuple[str, str]:
        return ("", "") if event.alert.name in _LOST else (event.alert.source, event.alert.run_id)

    for _, group in groupby(sorted(events, key=run_of), run_of):
        together = tuple(sorted(group, key=_urgency))
        runs = {(event.alert.source, event.alert.run_id) for event in together}
        source, run_id = runs.pop() if len(runs) == 1 else ("", "")
        yield Message(run_id, source, now, together)


def _urgency(event: Event) -> tuple[bool, int, str, str]:
    alert = event.alert
    return event.resolved is not None, _SEVERITIES.index(alert.severity), alert.run_id, alert.head
