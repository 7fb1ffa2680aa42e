"""A snapshot as a JSON document, for scripts. heads.schema.json, beside this file, describes it."""

from __future__ import annotations

import json
import math
from dataclasses import fields

from rl_exporter.heads import Head
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import DurationNumbers, attributes
from rl_exporter.snapshot import HeadReading, SanctumSnapshot, TamiyoState
from rl_exporter.view.findings import head_findings
from rl_exporter.view.verdict import head_status, run_status

SCHEMA_VERSION = 1
"""Rises when a field changes its meaning or type, or goes. A new field does not raise it."""

HEALTHY = "healthy"
"""The verdict on a head that has a level, and of which nothing stands out."""


def json_line(snapshot: SanctumSnapshot, url: str | None = None) -> str:
    """The document on one line. null is not measured, or not a number."""
    return json.dumps(document(snapshot, url), ensure_ascii=False, allow_nan=False)


def document(snapshot: SanctumSnapshot, url: str | None = None) -> dict[str, object]:
    """Every number of a snapshot, with the verdicts on it. Nats, seconds, shares in [0, 1].

    ``url`` is where the snapshot was read. None stands for a number that was not measured or is not finite.
    """
    return {key: _finite(value) for key, value in _fields(snapshot, url).items()}


def _fields(snapshot: SanctumSnapshot, url: str | None) -> dict[str, object]:
    run, tamiyo = snapshot.run, snapshot.tamiyo
    return {
        "schema_version": SCHEMA_VERSION,
        "url": url,
        **{field.name: getattr(run, field.name) for field in fields(run)},
        "run_state": snapshot.run_state.value,
        "status": run_status(snapshot).name.lower(),
        **{number.name: number.of(tamiyo) for number in attributes(TamiyoState)},
        **{number.name: number.of(snapshot) for number in attributes(SanctumSnapshot)},
        **{
            f"{number.name}s": _histogram(getattr(snapshot, f"{number.name}s"))
            for number in attributes(DurationNumbers)
        },
        "record_errors": snapshot.record_errors,
        "environment_metrics": {number.series.key: number.value for number in snapshot.environment_metrics},
        "dropped_values": dict(snapshot.dropped),
        "heads": [
            _head(head, tamiyo.readings[head.name], tamiyo.unmeasured_updates(head.name))
            for head in tamiyo.heads
        ],
    }


def _head(head: Head, reading: HeadReading, unmeasured: int | None) -> dict[str, object]:
    status = head_status(reading)
    return {
        "name": head.name,
        "choices": head.choices,
        "max_entropy": head.max_entropy,
        "entropy_multiplier": head.entropy_multiplier,
        **{number.name: number.of(reading) for number in attributes(HeadReading)},
        "effective": reading.effective,
        "level": reading.level.value if reading.level else None,
        "status": status.name.lower() if status is not None else None,
        **_verdict(head, reading),
        "state": reading.state.value if reading.state else None,
        "state_streak": reading.state_streak,
        "warning_streak": reading.warning_streak,
        "critical_streak": reading.critical_streak,
        "thresholds": head.thresholds._asdict(),
        "blind": reading.blind,
        "settled": reading.settled,
        "actions": {head.action_name(i): share for i, share in enumerate(reading.action_shares)},
        "conditions": {condition.value: since for condition, since in reading.conditions},
        "unmeasured_updates": unmeasured,
        "effective_histogram": _histogram(reading.effective_histogram),
    }


def _verdict(head: Head, reading: HeadReading) -> dict[str, object]:
    """The worst that stands out, since when it has held for three updates (Unix time), and what shows it."""
    worst = next(iter(head_findings(head, reading)), None)
    if worst is None:
        return {"verdict": HEALTHY if reading.level else None, "since": None, "evidence": None}
    since = {condition.value: since for condition, since in reading.conditions}
    return {"verdict": worst.word, "since": since.get(worst.word), "evidence": worst.text}


def _histogram(histogram: Histogram) -> dict[str, object]:
    return {"bounds": list(histogram.bounds), "counts": list(histogram.counts), "sum": histogram.sum}


def _finite(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
