"""Policies that sample an operation first: which heads each operation uses, as the loop declares it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rl_exporter.integrations.meter.segments import BoolArray, Segments


@dataclass(frozen=True, slots=True)
class Operations:
    """One head of the policy selects an operation, and each operation uses some of the other heads.

    ``head``: its name. ``consult``: for each of its actions, in order, the names of the heads that it uses.
    Where it is left out, a head whose mask allows only the first action counts as not used.
    """

    head: str
    consult: tuple[tuple[str, ...], ...] | None = None


class Consulting(NamedTuple):
    """``Operations`` with indices of heads."""

    head: int
    number: int
    """K"""
    consult: BoolArray | None
    """(K, H)"""

    @classmethod
    def of(cls, operations: Operations, segments: Segments) -> Consulting:
        """Raises ValueError for heads that do not exist and operations that are not described."""
        names = segments.names
        if operations.head not in names:
            raise ValueError(f"no head {operations.head!r} selects operations; heads: {', '.join(names)}")
        head = names.index(operations.head)
        number = segments.sizes[head]
        if operations.consult is None:
            return cls(head, number, None)
        unknown = {name for used in operations.consult for name in used} - set(names)
        if len(operations.consult) != number or unknown:
            wrong = f"unknown heads {sorted(unknown)}" if unknown else f"{len(operations.consult)} operations"
            raise ValueError(
                f"operations consult {wrong}; list, for each of the {number} actions of {operations.head!r}, "
                "the heads that it uses"
            )
        used = [[name in own or name == operations.head for name in names] for own in operations.consult]
        return cls(head, number, np.array(used, dtype=np.bool_))
