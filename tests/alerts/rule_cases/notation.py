"""Writes samples in promtool's series notation, in its short form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
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
        count, step = _leading_sequence(values[at:])
        parts.append(_part(values[at], count, step))
        at += count
    return " ".join(parts)


def _leading_sequence(values: Sequence[Value]) -> tuple[int, float]:
    """Length and step of the leading values that are equal, or whole numbers in equal steps."""
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
        return promtool_number(value)
    slope = f"{step:+.0f}" if step else ""
    return f"{promtool_number(value)}{slope}x{count - 1}"
