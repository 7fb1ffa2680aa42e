"""What one metric is: name, type, help, labels, and how it reads from a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from rl_exporter.samples import Sample
from rl_exporter.snapshot import SanctumSnapshot

_UNITS = ("nats", "ratio", "seconds", "updates")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family; ``read`` yields its samples from a snapshot."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[SanctumSnapshot], Iterable[Sample]]

    @property
    def unit(self) -> str:
        """Unit as OpenMetrics wants it: the suffix of the name, or nothing."""
        suffix = self.name.removesuffix("_total").rpartition("_")[2]
        return suffix if suffix in _UNITS else ""
