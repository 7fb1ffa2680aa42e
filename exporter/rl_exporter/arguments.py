"""What ``record`` was given, as a payload: numbers of any library, none of which is imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rl_exporter.library_numbers import count, number, shown
from rl_exporter.numbers import HeadNumbers, attributes
from rl_exporter.payload import NONFINITE_COUNTS, HeadMeasurement, PPOUpdatePayload

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
    for name in NONFINITE_COUNTS:
        if given[name] is not None:
            for head, value in _items(given[name], name):
                per_head.setdefault(head, {})[name] = (
                    _of_run(value, f"{name} of head {head!r}", whole=True) or 0
                )
    if given["action_shares"] is not None:
        for head, shares in _items(given["action_shares"], "action_shares"):
            per_head.setdefault(head, {})["action_shares"] = _shares(shares, head)
    run: dict[str, Any] = {}
    for name, whole in _RUN:
        value = given[name]
        run[name] = value if type(value) is float and not whole else _of_run(value, name, whole=whole)
    return PPOUpdatePayload(
        heads={head: HeadMeasurement(**measured) for head, measured in per_head.items()},
        environment_metrics=given["environment_metrics"],
        **run,
    )


def _items(values: Any, argument: str) -> Any:
    try:
        return values.items()
    except AttributeError:
        raise TypeError(
            f"{argument} is {shown(values)}; give a number for each head by name, such as {{'arm': 0.5}}"
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
            f"action_shares of head {head!r} are {shown(values)}; give the mean probability of each action"
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
