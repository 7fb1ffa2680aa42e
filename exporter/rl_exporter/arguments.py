"""What ``record`` was given, as a payload: numbers of any library, none of which is imported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from operator import index
from typing import Any

from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import HeadMeasurement, PPOUpdatePayload

_HEAD = tuple((number.name, number.row.argument or number.name) for number in attributes(HeadNumbers))
_RUN = tuple((number.name, number.whole) for number in attributes(PPOUpdatePayload))


def payload(given: Mapping[str, Any]) -> PPOUpdatePayload:
    """Build a payload from the arguments of ``record``. None means not measured.

    Raises TypeError, with the argument and the head, for what is no number.
    """
    per_head: dict[str, dict[str, Any]] = {}
    for name, argument in _HEAD:
        values = given[argument]
        if values is not None:
            for head, value in _items(values, argument):
                measured = per_head.setdefault(head, {})
                measured[name] = value if type(value) is float else _of_head(value, argument, head)
    if given["action_shares"] is not None:
        for head, shares in _items(given["action_shares"], "action_shares"):
            per_head.setdefault(head, {})["action_shares"] = _shares(shares, head)
    run: dict[str, Any] = {}
    for name, whole in _RUN:
        value = given[name]
        run[name] = value if type(value) is float and not whole else _of_run(value, name, whole=whole)
    return PPOUpdatePayload(
        heads={head: HeadMeasurement(**measured) for head, measured in per_head.items()}, **run
    )


def _items(values: Any, argument: str) -> Any:
    try:
        return values.items()
    except AttributeError:
        raise TypeError(
            f"{argument} is {_shown(values)}; give a number for each head by name, such as {{'arm': 0.5}}"
        ) from None


def _of_head(value: Any, argument: str, head: str) -> float | None:
    try:
        return number(value)
    except TypeError as error:
        raise TypeError(f"{argument} of head {head!r} is {error}; give a number, or None") from error


def _of_run(value: Any, name: str, *, whole: bool) -> float | None:
    try:
        return count(value) if whole else number(value)
    except TypeError as error:
        needed = "a whole number" if whole else "a number"
        raise TypeError(f"{name} is {error}; give {needed}, or None") from error


def _shares(values: Any, head: str) -> tuple[float, ...] | None:
    if values is None:
        return None
    try:
        shares = tuple(map(_share, _plain_sequence(values)))
    except Exception:  # noqa: BLE001 - each library refuses with another exception
        shares = ()
    if not shares:
        raise TypeError(
            f"action_shares of head {head!r} are {_shown(values)}; give the mean probability of each action"
        )
    return shares


def _plain_sequence(values: Any) -> Iterable[Any]:
    if isinstance(values, str | bytes | bytearray | Mapping):
        return ()
    plain: Iterable[Any] = values.tolist() if hasattr(values, "tolist") else values  # a tensor moves once
    return plain


def _share(value: Any) -> float:
    share = number(value)
    if share is None:
        raise TypeError("None")
    return share


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
        raise TypeError(_shown(value)) from error
    raise TypeError(_shown(value))


def count(value: Any) -> float:
    """A count of any library: what ``operator.index`` takes, and other numbers for later checks. None is 0.

    Raises TypeError, with what it is, for anything else, and for arrays and tensors of one dimension or more.
    """
    if type(value) is int:
        return value
    if getattr(value, "ndim", 0):
        raise TypeError(_shown(value))
    try:
        return index(value)
    except TypeError:
        return number(value) or 0


def _shown(value: object) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - somebody's repr must not hide the reason
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"
