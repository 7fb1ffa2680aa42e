"""Exposition text of families that seldom change but in their values, and its compression."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Encoder = Callable[[CollectorRegistry], bytes]

_VALUE = re.compile(r"^([^#].* )\S+$", re.MULTILINE)
_GZIP = 16
_WINDOW_BITS, _MEMORY_LEVEL = 13, 6
"""64 KiB to copy for each scrape in place of 256 KiB, for 2 % more bytes: lines repeat what is near."""


class _Families(Collector):
    """A collector over families that are already there."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


class Writer:
    """Writes families in one format.

    The encoder of prometheus_client writes what is new; as long as names and labels stay the same, only values
    are written anew, into the text that it wrote: a fraction of the time.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._written: tuple[list[object], str] | None = None

    def write(
        self, names: list[object], values: Iterable[float], families: Callable[[], Iterable[Family]]
    ) -> bytes:
        """What the encoder writes for ``families()``, whose samples have these values in this order.

        ``names`` stands for everything else in them; they have neither timestamps nor exemplars.
        """
        written = self._written
        if written is None or written[0] != names:
            written = self._written = names, _template(self._encoder, families())
        return (written[1] % tuple(map(floatToGoString, values))).encode()

    def write_families(self, families: Iterable[Family]) -> bytes:
        """What the encoder writes for families that are there anyway."""
        families = list(families)
        samples = [sample for family in families for sample in family.samples]
        names: list[object] = [(sample.name, sample.labels) for sample in samples]
        return self.write(names, [sample.value for sample in samples], lambda: families)


def _template(encoder: Encoder, families: Iterable[Family]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return _VALUE.sub(r"\1%s", encoder(registry).decode().replace("%", "%%"))


class Packed:
    """The beginning of a text, compressed; it takes many ends."""

    def __init__(self, beginning: bytes) -> None:
        self._compressor = zlib.compressobj(1, zlib.DEFLATED, _GZIP + _WINDOW_BITS, _MEMORY_LEVEL)
        self._beginning = self._compressor.compress(beginning) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def with_end(self, end: bytes) -> bytes:
        """One gzip member with the whole text."""
        compressor = self._compressor.copy()
        return self._beginning + compressor.compress(end) + compressor.flush()
