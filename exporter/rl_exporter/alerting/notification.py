"""Parses Alertmanager's webhook notifications and formats them for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Self

from rl_exporter.view.cells import printable

WATCHDOG = "RLMonitoringWatchdog"
MAX_ALERTS = 10_000
"""Alerts of one notification that are shown; alertmanager.yml sends at most 4,000 (max_alerts)."""

_YEARS = range(1970, 9000)
"""Near the ends of the calendar, a time cannot be shown in every time zone."""

_INDENT = " " * 10
_COLOURS = MappingProxyType({"critical": "31;1", "warning": "33;1", "resolved": "32;1"})


class NotificationError(ValueError):
    """The request body is no notification of Alertmanager. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a notification. Times have a time zone; ``ends`` is None while the alert fires."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: datetime
    ends: datetime | None = None
    known: bool = field(default=False, compare=False)
    """Whether an earlier notification contained it, so that this one only repeats it."""

    @classmethod
    def parse(cls, raw: Any) -> Self:
        """Parse one entry of the notification's ``alerts``. Raises NotificationError."""
        try:
            resolved = raw["status"] == "resolved"
            return cls(
                labels=_strings(raw["labels"]),
                annotations=_strings(raw["annotations"]),
                starts=_time(raw["startsAt"]),
                ends=_time(raw["endsAt"]) if resolved else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotificationError(f"an alert lacks or garbles a field: {error!r}") from error

    @property
    def name(self) -> str:
        """Name of the alert rule."""
        return self.labels.get("alertname", "an alert without a name")

    @property
    def identity(self) -> bytes:
        """Equal in two notifications of the same alert. An alert that fires again has a new start."""
        # A digest, because the receiver keeps thousands of them, and labels may be long.
        parts = repr((sorted(self.labels.items()), self.starts.astimezone(UTC)))
        return blake2b(parts.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text[:40]!r} has no time zone")
    if not _YEARS.start <= moment.year < _YEARS.stop:
        raise ValueError(f"{text[:40]!r} is no time of an alert")
    return moment


def _strings(raw: Mapping[str, Any]) -> Mapping[str, str]:
    return MappingProxyType({str(key): single_line(str(value)) for key, value in raw.items()})


def single_line(text: str) -> str:
    """``text`` on one line, without control characters: anybody may post to the port of the receiver."""
    return printable(" ".join(text.split()))


@dataclass(frozen=True, slots=True)
class Notification:
    """The alerts of one notification, and how many more there are that it does not hold."""

    alerts: tuple[Alert, ...]
    left_out: int = 0


def parse_notification(body: Any) -> Notification:
    """Parse a decoded webhook body. Raises NotificationError."""
    if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
        raise NotificationError("the body is no notification of Alertmanager: it has no list 'alerts'")
    taken, rest = body["alerts"][:MAX_ALERTS], body["alerts"][MAX_ALERTS:]
    truncated = body.get("truncatedAlerts", 0)
    left_out = truncated if isinstance(truncated, int) and truncated > 0 else 0
    return Notification(tuple(Alert.parse(raw) for raw in taken), left_out + len(rest))


def format_page(alert: Alert, *, now: datetime, colour: bool = False) -> str:
    """Format one alert: what, since when, runbook and dashboard. A repeated or resolved one takes one line."""
    # Local time, because the reader compares it with the clock on the wall.
    local = now.astimezone().strftime("%H:%M:%S")
    severity = alert.labels.get("severity", "alert")
    summary = alert.annotations.get("summary") or f"{alert.name} {dict(alert.labels)}"
    if alert.ends:
        lasted = _duration(alert.starts, alert.ends)
        return f"{local}  {_severity_word('resolved', colour)}  {summary}, after {lasted}\n"
    if alert.known:
        return f"{local}  {severity}, still  {summary}, for {_duration(alert.starts, now)}\n"
    return "\n".join((f"{local}  {_severity_word(severity, colour)}  {summary}", *_details(alert, now), ""))


def _details(alert: Alert, now: datetime) -> Iterator[str]:
    annotations = alert.annotations
    wrapped = textwrap.wrap(annotations.get("description", ""), width=90)
    since = f"since {alert.starts.astimezone():%H:%M:%S} ({_duration(alert.starts, now)})"
    facts = [since, *(annotations[key] for key in ("return", "aggregate") if annotations.get(key))]
    if level := annotations.get("level"):
        facts.insert(0, f"level {level}")
    yield from (_INDENT + line for line in textwrap.wrap(annotations.get("evidence", ""), width=90))
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


def _severity_word(severity: str, colour: bool) -> str:
    word = severity.upper()
    return f"\x1b[{_COLOURS[severity]}m{word}\x1b[0m" if colour and severity in _COLOURS else word


def _duration(start: datetime, end: datetime) -> str:
    seconds = max(0, round((end - start).total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


def utc_now() -> datetime:
    """The current time, with time zone."""
    return datetime.now(UTC)
