"""The heads of a policy, each with a name and a number of choices: all that the exporter must know of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import index
from types import MappingProxyType
from typing import Any, SupportsFloat, SupportsIndex, overload

from rl_exporter.health import DEFAULT_THRESHOLDS, START_THRESHOLDS, Thresholds

ROUNDING = 2.0**-7
"""A value beyond a bound by up to this share of the bound is clamped; farther out it is an error.

It is the spacing of bfloat16. A uniform head of 4,672 choices has 8.449 nats: in bfloat16 8.5, in float32 3e-6
too many.
"""

_ABSOLUTE_ROUNDING = 1e-6
"""Where only one side is bounded and the bound is 0."""


def within(value: float, upper: float, lower: float = 0.0) -> float | None:
    """Clamp ``value`` to [lower, upper]; None when it lies outside by more than rounding, or is NaN."""
    if lower <= value <= upper:
        return value
    if lower - _rounding(lower, upper) <= value <= upper + _rounding(upper, lower):
        return min(max(value, lower), upper)
    return None


def _rounding(bound: float, other: float) -> float:
    """How far rounding can lead beyond a bound. Where that is 0, the size of the other counts, up to 1."""
    size = abs(bound)
    if not size and abs(other) < sys.float_info.max:
        size = min(abs(other), 1.0)
    return max(ROUNDING * size, _ABSOLUTE_ROUNDING)


MAXIMUM, START = "maximum", "start"
"""References of a head: the entropy of the uniform distribution, or the median of its first ten updates."""


@dataclass(frozen=True, slots=True)
class Head:
    """One categorical action dimension of a policy.

    ``choices`` is the number of actions, at least 1. ``entropy_multiplier`` scales the base entropy coefficient
    of the loss for this head (1.0: the base itself). ``reference`` is the entropy that counts as 1:
    ``maximum``, ``start`` or a number of nats. ``warning`` and ``critical`` are thresholds of the effective
    ratio; 0 switches one off. They default to 0.5 and 0.25, for ``start`` to 0.25 and 0.1. ``actions`` names
    the actions.

    Raises ValueError with the remedy for what is impossible.
    """

    name: str
    choices: int
    entropy_multiplier: float = 1.0
    warning: float | None = field(default=None, compare=False, repr=False)
    critical: float | None = field(default=None, compare=False, repr=False)
    reference: str | float = MAXIMUM
    actions: tuple[str, ...] = ()
    max_entropy: float = field(init=False)
    """Entropy of the uniform distribution over all choices, in nats: ln(choices)."""
    thresholds: Thresholds = field(init=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        # The only way to set a field of a frozen dataclass. Numbers of NumPy become Python's own.
        object.__setattr__(self, "choices", _whole(self.name, self.choices))
        object.__setattr__(self, "entropy_multiplier", _multiplier(self.name, self.entropy_multiplier))
        object.__setattr__(self, "reference", _checked_reference(self.name, self.reference))
        _check_actions(self.name, self.choices, self.actions)
        object.__setattr__(self, "max_entropy", math.log(self.choices))
        object.__setattr__(self, "thresholds", _thresholds(self))

    def action_name(self, index: int) -> str:
        """What people call an action; its index where it has no name."""
        return self.actions[index] if self.actions else str(index)

    def normalize(self, nats: float) -> float | None:
        """Entropy in nats as a share of the maximum, in [0, 1]. None for a head of one choice.

        Nothing else in the project divides an entropy by its maximum, so the two cannot disagree.
        """
        return nats / self.max_entropy if self.choices > 1 else None


def _thresholds(head: Head) -> Thresholds:
    usual = START_THRESHOLDS if head.reference == START else DEFAULT_THRESHOLDS
    warning = usual.warning if head.warning is None else _threshold(head.name, "warning", head.warning)
    if head.critical is None:
        return Thresholds(warning, min(usual.critical, warning) if warning else usual.critical)
    critical = _threshold(head.name, "critical", head.critical)
    if critical > warning > 0.0:
        raise ValueError(
            f"head {head.name!r} has critical threshold {critical:g} above its warning threshold {warning:g}; "
            "give a critical one that is not higher"
        )
    return Thresholds(warning, critical)


def _threshold(name: str, word: str, ratio: object) -> float:
    number = _float(ratio)
    if number is None or not 0.0 <= number <= 1.0:
        raise ValueError(f"head {name!r} has {word} threshold {ratio!r}; give a number from 0 (off) to 1")
    return number


def _whole(name: str, choices: object) -> int:
    # True would be a head of one choice: bool is a subclass of int, and that of NumPy 1 is a whole number, too.
    if type(choices).__name__ not in {"bool", "bool_"} and isinstance(choices, SupportsIndex):
        with suppress(TypeError):  # an array of several numbers has the method, too
            if index(choices) >= 1:
                return index(choices)
    raise ValueError(f"head {name!r} has {choices!r} choices; give a whole number >= 1")


def _multiplier(name: str, factor: object) -> float:
    number = _float(factor)
    if number is None or not 0.0 <= number < math.inf:
        raise ValueError(f"head {name!r} has entropy multiplier {factor!r}; give a finite number >= 0")
    return number


def _checked_reference(name: str, reference: object) -> str | float:
    if isinstance(reference, str) and reference in {MAXIMUM, START}:
        return str(reference)
    number = _float(reference)
    if number is None or not 0.0 < number < math.inf:
        raise ValueError(
            f"head {name!r} has reference {reference!r}; give 'maximum', 'start' or a number of nats above 0"
        )
    return number


def _float(value: object) -> float | None:
    """A number of any library as a float; None for what is none, a truth value and a text among them."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _check_actions(name: str, choices: int, actions: tuple[str, ...]) -> None:
    if not actions:
        return
    if len(actions) != choices or len(set(actions)) != choices:
        raise ValueError(
            f"head {name!r} has {choices} choices but {len(set(actions))} different names of actions; "
            "give each action its own name, in order"
        )
    for action in actions:
        require_label_value(f"action of head {name!r}", action)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"head name {name!r} is empty or no string; name every head")
    require_label_value("head name", name)


def require_label_value(what: str, text: str) -> None:
    """Raise ValueError unless ``text`` is valid UTF-8, which Prometheus requires of label values.

    A Python string may not be: lone surrogates come from file names and command lines in another encoding.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} {text!r} is not valid UTF-8, as Prometheus requires; give another") from None


class Heads(Sequence[Head]):
    """The heads of one policy: an immutable sequence with unique names."""

    __slots__ = ("_by_name", "_heads")

    def __init__(self, heads: Sequence[Head]) -> None:
        if not heads:
            raise ValueError("a policy without heads has nothing to export; declare at least one head")
        by_name = {head.name: head for head in heads}
        if len(by_name) < len(heads):
            names = [head.name for head in heads]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"head names {twice} occur more than once; give every head its own name")
        self._heads = tuple(heads)
        self._by_name: Mapping[str, Head] = MappingProxyType(by_name)

    @classmethod
    def of(cls, sizes: Mapping[str, SupportsIndex]) -> Heads:
        """Make heads from a mapping of name to number of choices, such as ``{"gripper": 4, "arm": 9}``."""
        return cls([Head(name, choices) for name, choices in sizes.items()])  # type: ignore[arg-type] # Head makes an int of it

    @property
    def sizes(self) -> tuple[tuple[str, int], ...]:
        """Name and number of choices of each head: what a policy cannot change and still be the same one."""
        return tuple((head.name, head.choices) for head in self._heads)

    @property
    def names(self) -> tuple[str, ...]:
        """The heads' names, in order."""
        return tuple(self._by_name)

    def named(self, name: str) -> Head:
        """The head called ``name``. Raises ValueError that lists the declared heads."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ValueError(f"unknown head {name!r}; declared heads: {', '.join(self._by_name)}") from None

    def replaced(self, name: str, **changed: Any) -> Heads:
        """These heads, with other fields of the head called ``name``. Raises ValueError as ``named``."""
        head = self.named(name)
        return Heads([replace(head, **changed) if one is head else one for one in self])

    @overload
    def __getitem__(self, index: int) -> Head: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Head]: ...
    def __getitem__(self, index: int | slice) -> Head | Sequence[Head]:
        return self._heads[index]

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[Head]:
        return iter(self._heads)

    def __contains__(self, item: object) -> bool:
        return item in self._by_name or item in self._heads

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heads) and self._heads == other._heads

    def __hash__(self) -> int:
        return hash(self._heads)

    def __reduce__(self) -> tuple[Any, ...]:
        return Heads, (self._heads,)

    def __repr__(self) -> str:
        return f"Heads({list(self._heads)!r})"


def entropy_attribute_head(attribute: str) -> str | None:
    """The head's name in an attribute ``head_<name>_entropy``, or None for any other attribute."""
    if attribute.startswith("head_") and attribute.endswith("_entropy"):
        return attribute.removeprefix("head_").removesuffix("_entropy") or None
    return None
