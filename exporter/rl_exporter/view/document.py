"""A snapshot as a JSON document, for scripts."""

from __future__ import annotations

import json
import math
from dataclasses import fields

from rl_exporter.heads import Head
from rl_exporter.histogram import Histogram
from rl_exporter.numbers import DurationNumbers, attributes
from rl_exporter.snapshot import HeadReading, SanctumSnapshot, TamiyoState
from rl_exporter.view.verdict import head_status, run_status


def json_line(snapshot: SanctumSnapshot, url: str | None = None) -> str:
    """The document on one line. null is not measured, or not a number."""
    return json.dumps(_finite(document(snapshot, url)), ensure_ascii=False, allow_nan=False)


def document(snapshot: SanctumSnapshot, url: str | None = None) -> dict[str, object]:
    """Every number of a snapshot, with the verdicts on it. Nats, seconds, shares in [0, 1]."""
    run, tamiyo = snapshot.run, snapshot.tamiyo
    return {
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


def _histogram(histogram: Histogram) -> dict[str, object]:
    return {"bounds": list(histogram.bounds), "counts": list(histogram.counts), "sum": histogram.sum}


def _finite(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
