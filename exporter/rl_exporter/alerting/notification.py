"""Alertmanager's webhook notification as a person reads it on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

WATCHDOG = "RLMonitoringWatchdog"
_INDENT = " " * 10
_COLOURS = MappingProxyType({"critical": "31;1", "warning": "33;1", "resolved": "32;1"})


class NotificationError(ValueError):
    """A request body that is no notification of Alertmanager; the message says why."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification. Times are aware; ``ends`` is None while it fires."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: datetime
    ends: datetime | None = None
    known: bool = field(default=False, compare=False)
    """Whether it was in an earlier notification, so that this one only repeats it."""

    @classmethod
    def parse(cls, raw: Any) -> Self:
        """From one entry of the notification's ``alerts``."""
        try:
            resolved = raw["status"] == "resolved"
            return cls(
                labels=_strings(raw["labels"]),
                annotations=_strings(raw["annotations"]),
                starts=datetime.fromisoformat(raw["startsAt"]),
                ends=datetime.fromisoformat(raw["endsAt"]) if resolved else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotificationError(f"an alert lacks or garbles a field: {error!r}") from error

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.labels.get("alertname", "an alert without a name")

    @property
    def identity(self) -> tuple[frozenset[tuple[str, str]], datetime]:
        """What makes it the same alert in two notifications."""
        return frozenset(self.labels.items()), self.starts


def _strings(raw: Mapping[str, Any]) -> Mapping[str, str]:
    """Label or annotation values on one line each, without characters that could steer a terminal."""
    return MappingProxyType({str(key): printable(str(value)) for key, value in raw.items()})


def printable(text: str) -> str:
    """``text`` on one line, with everything that could steer a terminal replaced."""
    spaced = " ".join(text.split())
    return "".join(char if char.isprintable() else "�" for char in spaced)


def parse_notification(body: Any) -> tuple[Alert, ...]:
    """The alerts of a decoded webhook body; NotificationError when it is something else."""
    if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
        raise NotificationError("the body is no notification of Alertmanager: it has no list 'alerts'")
    return tuple(Alert.parse(raw) for raw in body["alerts"])


def page(alert: Alert, *, now: datetime, colour: bool = False) -> str:
    """One alert: what, since when, and where to read on; one line when it only repeats or resolves."""
    local = now.astimezone().strftime("%H:%M:%S")
    severity = alert.labels.get("severity", "alert")
    summary = alert.annotations.get("summary") or f"{alert.name} {dict(alert.labels)}"
    if alert.ends:
        return f"{local}  {_word('resolved', colour)}  {summary}, after {_span(alert.starts, alert.ends)}\n"
    if alert.known:
        return f"{local}  {severity}, still  {summary}, for {_span(alert.starts, now)}\n"
    return "\n".join((f"{local}  {_word(severity, colour)}  {summary}", *_details(alert, now), ""))


def _details(alert: Alert, now: datetime) -> Iterator[str]:
    annotations = alert.annotations
    wrapped = textwrap.wrap(annotations.get("description", ""), width=90)
    since = f"since {alert.starts.astimezone():%H:%M:%S} ({_span(alert.starts, now)})"
    facts = [since, *(annotations[key] for key in ("aggregate",) if annotations.get(key))]
    if level := annotations.get("level"):
        facts.insert(0, f"level {level}")
    yield from (_INDENT + line for line in wrapped)
    yield _INDENT + "; ".join(facts)
    place = [
        f"{key} {alert.labels[key]}" for key in ("cluster", "namespace", "instance") if alert.labels.get(key)
    ]
    if place:
        yield _INDENT + ", ".join(place)
    for word, key in (("what to do", "runbook_url"), ("dashboard", "dashboard_url")):
        if annotations.get(key):
            yield f"{_INDENT}{word + ':':<12}{annotations[key]}"


def _word(severity: str, colour: bool) -> str:
    word = severity.upper()
    return f"\x1b[{_COLOURS[severity]}m{word}\x1b[0m" if colour and severity in _COLOURS else word


def _span(start: datetime, end: datetime) -> str:
    seconds = max(0, round((end - start).total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def utc_now() -> datetime:
    """The present time, aware."""
    return datetime.now(UTC)
