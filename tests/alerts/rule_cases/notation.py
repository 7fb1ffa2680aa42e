"""Writes samples in promtool's series notation, in its short form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

GAP = None
"""No sample at a scrape."""

STALE = "stale"
"""The staleness marker, which Prometheus writes when a series ends."""

Value = float | str | None


def selector(name: str, labels: Mapping[str, str]) -> str:
    """A PromQL selector with these labels, in order and escaped."""
    inside = ",".join(f"{key}={_quoted(value)}" for key, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def promtool_number(value: float) -> str:
    """A number in the form that promtool reads."""
    if math.isnan(value):
        return "NaN"
    if value == int(value):
        return str(int(value))
    return repr(value)


def compressed(values: Sequence[Value]) -> str:
    """The values of one series: constants as ``ax4``, steady counters as ``a+bx4``, gaps as ``_x4``."""
    parts: list[str] = []
    at = 0
    while at < len(values):
        count, step = _run(values, at)
        parts.append(_part(values[at], count, step))
        at += count
    return " ".join(parts)


def _run(values: Sequence[Value], at: int) -> tuple[int, float]:
    """Length of the run of equal values at ``at``, or of whole numbers in equal steps; and the step."""
    first = values[at]
    equal = at + 1
    while equal < len(values) and _same(values[equal], first):
        equal += 1
    if equal - at > 1:
        return equal - at, 0
    count, step = _steps(values, at)
    return (count, step) if count > 2 else (1, 0)


def _steps(values: Sequence[Value], at: int) -> tuple[int, float]:
    """How many whole numbers in equal steps begin at ``at``, and the step."""
    end, step = at + 1, 0.0
    while end < len(values):
        before, value = values[end - 1], values[end]
        if not _whole(before) or not _whole(value) or (end > at + 1 and value - before != step):
            break
        step = value - before
        end += 1
    return end - at, step


def _whole(value: Value) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value) and value == int(value)


def _same(one: Value, other: Value) -> bool:
    return one == other or (one != one and other != other)


def _part(value: Value, count: int, step: float) -> str:
    if value is None:
        return f"_x{count}" if count > 1 else "_"
    if isinstance(value, str) or math.isnan(value):
        return " ".join([value if isinstance(value, str) else "NaN"] * count)
    if count == 1:
        return promtool_number(value)
    slope = f"{step:+.0f}" if step else ""
    return f"{promtool_number(value)}{slope}x{count - 1}"
