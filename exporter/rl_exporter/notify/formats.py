"""A message as the body of a post: JSON as Alertmanager posts it, Slack, Discord."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

from rl_exporter.notify.alerts import Severity
from rl_exporter.notify.events import Event, Message
from rl_exporter.view.cells import age, printable

RUNBOOKS = "https://github.com/rl-policy-exporter/rl-policy-exporter/blob/main/alerts/runbooks"
_NEVER = "0001-01-01T00:00:00Z"
"""How Alertmanager writes the end of an alert that still fires."""

_MOST_EVENTS = 20
"""Of a message for people; the rest is counted."""

_DISCORD_CHARACTERS, _SLACK_CHARACTERS = 2000, 20_000
"""Discord refuses longer messages; Slack cuts them off at 40,000, counting the escapes of & and <."""


class Format(StrEnum):
    """What a webhook takes."""

    JSON = "json"
    SLACK = "slack"
    DISCORD = "discord"


def body(message: Message, form: Format) -> bytes:
    """The body of a post, JSON in UTF-8."""
    document = _DOCUMENTS[form](message)
    # Names of runs and heads may hold lone surrogates, which UTF-8 has no bytes for.
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def text(message: Message) -> str:
    """The message for people, a paragraph for each event."""
    shown, more = message.events[:_MOST_EVENTS], len(message.events) - _MOST_EVENTS
    rest = [f"and {more} more"] if more > 0 else []
    return "\n".join([*(_paragraph(message, event) for event in shown), *rest, *_context(message)])


def _paragraph(message: Message, event: Event) -> str:
    alert = event.alert
    what = f"run {printable(alert.run_id)}: {alert.summary}"
    if event.resolved is not None:
        return f"RESOLVED  {what}, after {age(event.resolved - alert.since)}"
    lines = [f"{alert.severity.upper()}  {what}, for {age(message.at - alert.since)}"]
    return "\n".join([*lines, *([alert.evidence] if alert.evidence else []), f"What to do: {_runbook(event)}"])


def _context(message: Message) -> list[str]:
    return [line for line in (message.context, printable(message.source)) if line]


def _runbook(event: Event) -> str:
    return f"{RUNBOOKS}/{event.alert.name}.md"


def _slack(message: Message) -> Mapping[str, Any]:
    shown = text(message)[:_SLACK_CHARACTERS]
    # Slack's own escapes: without them the name of a run could call a whole channel.
    for char, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        shown = shown.replace(char, escape)
    return {"text": f"{_mark(message)} {shown}"}


def _discord(message: Message) -> Mapping[str, Any]:
    shown = f"{_mark(message)} {text(message)}"
    if len(shown) > _DISCORD_CHARACTERS:
        shown = shown[: _DISCORD_CHARACTERS - 1] + "…"
    return {"content": shown, "allowed_mentions": {"parse": []}}


def _mark(message: Message) -> str:
    if not message.firing:
        return "\N{LARGE GREEN CIRCLE}"
    critical = any(e.alert.severity is Severity.CRITICAL for e in message.events if e.resolved is None)
    return "\N{LARGE RED CIRCLE}" if critical else "\N{LARGE YELLOW CIRCLE}"


def _alertmanager(message: Message) -> Mapping[str, Any]:
    """As Alertmanager's webhook, version 4: whatever takes its pages takes these."""
    alerts = [_alert(message, event) for event in message.events]
    common = {"run_id": message.run_id} if message.run_id else {}
    return {
        "version": "4",
        "groupKey": f"rl-exporter:{_digest(message.source, message.run_id)}",
        "truncatedAlerts": 0,
        "status": "firing" if message.firing else "resolved",
        "receiver": "rl-exporter",
        "groupLabels": common,
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": message.source,
        "alerts": alerts,
    }


def _alert(message: Message, event: Event) -> Mapping[str, Any]:
    alert = event.alert
    labels = {
        "alertname": alert.name,
        "severity": alert.severity.value,
        "run_id": alert.run_id,
        **({"head": alert.head} if alert.head else {}),
        **({"instance": alert.source} if alert.source else {}),
    }
    annotations = {
        "summary": f"Run {printable(alert.run_id)}: {alert.summary}",
        "description": "; ".join(part for part in (alert.evidence, message.context) if part),
        "runbook_url": _runbook(event),
    }
    return {
        "status": "firing" if event.resolved is None else "resolved",
        "labels": labels,
        "annotations": annotations,
        "startsAt": _time(alert.since),
        "endsAt": _NEVER if event.resolved is None else _time(event.resolved),
        "generatorURL": alert.source,
        "fingerprint": _digest(*map(str, alert.key)),
    }


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _digest(*parts: str) -> str:
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


_DOCUMENTS: Mapping[Format, Callable[[Message], Mapping[str, Any]]] = MappingProxyType(
    {Format.JSON: _alertmanager, Format.SLACK: _slack, Format.DISCORD: _discord}
)
