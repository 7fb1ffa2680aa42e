"""The heads of a policy, each with a name and a number of choices: all that the exporter must know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, overload

ROUNDING_TOLERANCE = 1e-6
"""Values beyond their bounds by up to this are rounding errors and are clamped; farther out they are errors."""


def within(value: float, upper: float, lower: float = 0.0) -> float | None:
    """Clamp ``value`` to [lower, upper]; None when it lies outside by more than rounding, or is NaN."""
    if lower <= value <= upper:
        return value
    if lower - ROUNDING_TOLERANCE <= value <= upper + ROUNDING_TOLERANCE:
        return min(max(value, lower), upper)
    return None


@dataclass(frozen=True, slots=True)
class Head:
    """One categorical action dimension of a policy.

    ``choices``: number of actions, at least 1. ``entropy_multiplier``: factor on the loss's base entropy
    coefficient for this head.
    """

    name: str
    choices: int
    entropy_multiplier: float = 1.0
    max_entropy: float = field(init=False)
    """Entropy of the uniform distribution over all choices, in nats: ln(choices)."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        # bool is a subclass of int, and True would be a head of one choice.
        if isinstance(self.choices, bool) or not isinstance(self.choices, int) or self.choices < 1:
            raise ValueError(f"head {self.name!r} has {self.choices!r} choices; give a whole number >= 1")
        if not math.isfinite(self.entropy_multiplier) or self.entropy_multiplier < 0:
            raise ValueError(
                f"head {self.name!r} has entropy multiplier {self.entropy_multiplier!r}; "
                "give a finite number >= 0"
            )
        # The only way to set a derived field of a frozen dataclass.
        object.__setattr__(self, "max_entropy", math.log(self.choices))

    def normalize(self, nats: float) -> float | None:
        """Entropy in nats as a share of the maximum, in [0, 1]. None for a head of one choice.

        Nothing else in the project divides an entropy by its maximum, so the two cannot disagree.
        """
        return nats / self.max_entropy if self.choices > 1 else None


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
    def of(cls, sizes: Mapping[str, int]) -> Heads:
        """Make heads from a mapping of name to number of choices, such as ``{"gripper": 4, "arm": 9}``."""
        return cls([Head(name, choices) for name, choices in sizes.items()])

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
