"""Numbers of any library as Python's own, without an import of any library."""

from __future__ import annotations

import math
from operator import index
from typing import Any


def number(value: Any) -> float | None:
    """A number of any library as a float: scalars, and arrays and tensors of one element. None stays None.

    Raises TypeError, with what it is, for anything else, and for text that spells a number.
    """
    if type(value) is float or value is None:
        return value
    try:
        # Before float(): NumPy refuses arrays of one dimension there, and would read text in one.
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, str | bytes | bytearray):
            return float(plain)
    except OverflowError:
        return math.inf if plain > 0 else -math.inf
    except Exception as error:  # each library refuses with another exception
        raise TypeError(shown(value)) from error
    raise TypeError(shown(value))


def count(value: Any) -> float:
    """A count of any library: what ``operator.index`` takes, and other numbers for later checks. None is 0.

    Raises TypeError, with what it is, for anything else, and for arrays and tensors of several elements.
    """
    if type(value) is int:
        return value
    try:
        return index(value)
    except TypeError:
        return number(value) or 0


def shown(value: object) -> str:
    """What a value looks like, for a message of one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - somebody's repr must not hide the reason
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"
