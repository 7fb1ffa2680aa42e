"""Values as Python writes them: what ``--env-arg`` takes, and what files and checkpoints keep of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from math import copysign
from types import EllipsisType
from typing import Any

_HUGE = 10_000
"""Bits of a whole number that Python takes and gives in hexadecimal digits alone."""


def parse_literal(text: str) -> Any:
    """The value that ``text`` writes. Raises ValueError where it writes none."""
    try:
        return ast.literal_eval(text)
    # A set of sets; brackets or signs without end.
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("it is no value as Python writes it") from error


def literal(value: Any, other: Callable[[Any], str] | None = None) -> str:
    """The text that ``parse_literal`` reads as ``value``: the same in every process, whatever order a set has.

    ``other`` writes what no text stands for, such as a date. Without it that raises ValueError. Raises
    RecursionError for what contains itself.
    """
    if isinstance(value, complex):
        sign = "-" if copysign(1.0, value.imag) < 0 else "+"
        return f"({literal(value.real, other)}{sign}{literal(abs(value.imag), other)}j)"
    if isinstance(value, list | tuple | set):
        return _sequence(value, [literal(item, other) for item in value])
    if isinstance(value, dict):
        return _braced(f"{literal(key, other)}: {literal(item, other)}" for key, item in value.items())
    return _scalar(value, other)


def canonical(value: Any) -> str:
    """A text by which processes can tell whether they were given the same value."""
    try:
        return literal(value, repr)
    except RecursionError:
        return repr(value)


def is_huge(value: Any) -> bool:
    """Whether it is a whole number of more digits than Python writes."""
    return isinstance(value, int) and value.bit_length() > _HUGE


def _sequence(value: list[Any] | tuple[Any, ...] | set[Any], items: list[str]) -> str:
    if isinstance(value, set):
        return _braced(sorted(items)) if items else "set()"
    if isinstance(value, tuple):
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    return f"[{', '.join(items)}]"


def _braced(items: Iterable[str]) -> str:
    return "{" + ", ".join(items) + "}"


def _scalar(value: Any, other: Callable[[Any], str] | None) -> str:
    if is_huge(value):
        return hex(value)
    if isinstance(value, float) and value == value:  # noqa: PLR0124 - no text stands for a NaN
        return repr(value).replace("inf", "1e999")
    if isinstance(value, EllipsisType):
        return "..."
    if value is None or isinstance(value, bool | int | str | bytes):
        return repr(value)
    if other is None:
        raise ValueError(f"no text stands for {value!r:.80}")
    return other(value)
