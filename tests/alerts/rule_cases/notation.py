"""The series notation of promtool's tests: values, gaps and staleness, written short."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeGuard

GAP = None
"""No sample at a scrape."""

STALE = "stale"
"""The marker that Prometheus writes when a series ends."""

Value = float | str | None


def selector(name: str, labels: Mapping[str, str]) -> str:
    """A series with its labels, in their order, escaped as PromQL wants it."""
    inside = ",".join(f"{key}={_quoted(value)}" for key, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def number(value: float) -> str:
    """A number as promtool reads it."""
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
        count, step = _run(values[at:])
        parts.append(_part(values[at], count, step))
        at += count
    return " ".join(parts)


def _run(values: Sequence[Value]) -> tuple[int, float]:
    """Length of the leading run of equal values, or of whole numbers in equal steps; and the step."""
    equal = next((i for i, value in enumerate(values) if not _same(value, values[0])), len(values))
    whole = _leading_whole(values)
    if equal > 1 or len(whole) < 3:
        return equal, 0
    steps = [after - before for before, after in pairwise(whole)]
    count = next((i for i, step in enumerate(steps) if step != steps[0]), len(steps)) + 1
    return (count, steps[0]) if count > 2 else (1, 0)


def _leading_whole(values: Sequence[Value]) -> list[float]:
    leading: list[float] = []
    for value in values:
        if not _whole(value):
            break
        leading.append(value)
    return leading


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
        return number(value)
    slope = f"{step:+.0f}" if step else ""
    return f"{number(value)}{slope}x{count - 1}"
