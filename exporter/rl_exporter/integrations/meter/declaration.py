"""The heads that a meter was declared with, and who counts its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, SupportsIndex

from rl_exporter.heads import Heads


class DeclaresHeads(Protocol):
    """A recorder: it knows the heads, and counts errors in telemetry."""

    @property
    def heads(self) -> Heads:
        """The heads it was declared with."""

    def count_record_error(self) -> None:
        """Count an error that lost a part of an update."""


def declared_heads(heads: DeclaresHeads | Heads | Mapping[str, SupportsIndex]) -> Heads:
    """The heads of a recorder, or those that ``rl_exporter.serve`` would take. Raises ValueError as it does."""
    if isinstance(heads, Heads):
        return heads
    return Heads.of(heads) if isinstance(heads, Mapping) else heads.heads


def error_counter(heads: object) -> Callable[[], None]:
    """What counts errors: that of a recorder; without one nobody does."""
    count: Callable[[], None] = getattr(heads, "count_record_error", _nothing)
    return count


def _nothing() -> None:
    """Nobody counts errors."""
