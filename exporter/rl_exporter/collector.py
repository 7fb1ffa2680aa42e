"""From snapshots to exposition text: the collector, and a renderer that keeps what did not change."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import Any, cast

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from rl_exporter.exposition import Encoder, Packed, Writer
from rl_exporter.histogram import Histogram
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from rl_exporter.samples import Metric
from rl_exporter.snapshot import SanctumSnapshot, TamiyoState

_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
DISTRIBUTION = "rl-policy-exporter"
_EOF = b"# EOF\n"
_FORMATS = 8
"""Formats kept in memory; Prometheus, its agents and a browser ask for three."""


def _family(metric: Metric, snapshot: SanctumSnapshot) -> Family:
    labels = ("run_id", *metric.labels)
    run_id = snapshot.run.run_id
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=labels, unit=metric.unit)
    for values, value in metric.read(snapshot):
        if isinstance(value, Histogram):
            family.add_metric([run_id, *values], value.cumulative(), value.sum)
        else:
            family.add_metric([run_id, *values], value)
    return cast(Family, family)


class HeadCollector(Collector):
    """Yields the metric families of one run; register it in any prometheus_client registry.

    Each collection reads one snapshot, so it never mixes two updates.
    """

    def __init__(self, snapshot: Callable[[], SanctumSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """All families of the run."""
        snapshot = self._snapshot()
        yield from update_families(snapshot)
        yield from live_families(snapshot)

    def describe(self) -> Iterable[Family]:
        """Nothing: names are known without a collection, and registration must not read a snapshot."""
        return []


def update_families(snapshot: SanctumSnapshot) -> Iterator[Family]:
    """The families that change with an update only."""
    return (_family(metric, snapshot) for metric in UPDATE_METRICS)


def _update_values(snapshot: SanctumSnapshot) -> tuple[list[object], list[float]]:
    """Names and labels of the families that change with an update, and the values of their samples in order."""
    names: list[object] = [snapshot.run.run_id]
    numbers: list[float] = []
    for metric in UPDATE_METRICS:
        for labels, value in metric.read(snapshot):
            if isinstance(value, Histogram):
                names.append((metric.name, labels, value.bounds))
                counts = list(accumulate(value.counts))
                numbers += (*counts, counts[-1], value.sum)
            else:
                names.append((metric.name, labels))
                numbers.append(value)
    return names, numbers


def live_families(snapshot: SanctumSnapshot) -> Iterator[Family]:
    """The families that can change at any moment."""
    return (_family(metric, snapshot) for metric in LIVE_METRICS)


def _negotiated(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number: answer as if nothing had been asked for
        return choose_encoder("")


class _Format:
    """One format of /metrics, with what is kept of it: the part of the last update, plain and compressed."""

    def __init__(self, encoder: Encoder) -> None:
        self._update_writer = Writer(encoder)
        self._live_writer = Writer(encoder)
        self._update: tuple[TamiyoState | None, bytes] = None, b""
        self._packed: tuple[bytes, Packed] | None = None

    def body(self, snapshot: SanctumSnapshot, live: Iterable[Family], *, gzip: bool) -> bytes:
        update = self._update_part(snapshot)
        end = self._live_writer.write_families(live)
        return self._packed_part(update).with_end(end) if gzip else update + end

    def _update_part(self, snapshot: SanctumSnapshot) -> bytes:
        tamiyo, text = self._update
        if tamiyo is not snapshot.tamiyo:
            text = self._update_writer.write(*_update_values(snapshot), lambda: update_families(snapshot))
            text = text.removesuffix(_EOF)
            self._update = snapshot.tamiyo, text
        return text

    def _packed_part(self, update: bytes) -> Packed:
        kept = self._packed
        if kept is None or kept[0] is not update:
            kept = self._packed = update, Packed(update)
        return kept[1]


class Renderer:
    """Renders /metrics: the update's part once per update and format, the live part every time."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot]) -> None:
        self._snapshot = snapshot
        self._process = ProcessCollector(registry=None)
        self._build = [version(DISTRIBUTION), platform.python_version()]
        self._lock = threading.Lock()
        self._formats: dict[str, _Format] = {}
        self._renders = 0
        self._render_seconds = 0.0

    def render(self, accept: str, *, gzip: bool = False) -> tuple[bytes, str]:
        """Body, compressed or not, and content type for an Accept header; the whole body shows one update."""
        started = time.perf_counter()
        encoder, content_type = _negotiated(accept)
        snapshot = self._snapshot()
        body = self._format(content_type, encoder).body(snapshot, self._live(snapshot), gzip=gzip)
        with self._lock:
            self._renders += 1
            self._render_seconds += time.perf_counter() - started
        return body, content_type

    def _format(self, content_type: str, encoder: Encoder) -> _Format:
        kept = self._formats.get(content_type)
        if kept is None:
            if len(self._formats) >= _FORMATS:  # clients choose versions; they must not choose our memory
                self._formats.clear()
            kept = self._formats[content_type] = _Format(encoder)
        return kept

    def _live(self, snapshot: SanctumSnapshot) -> Iterator[Family]:
        yield from live_families(snapshot)
        yield from self._self_families(snapshot)
        yield from self._process.collect()

    def _self_families(self, snapshot: SanctumSnapshot) -> Iterator[Family]:
        (info, _, labels, info_help), (errors, _, _, errors_help), (render, _, _, render_help) = SELF_METRICS
        build = GaugeMetricFamily(info, info_help, labels=labels)
        build.add_metric(self._build, 1.0)
        yield build
        yield CounterMetricFamily(errors, errors_help, value=snapshot.record_errors)
        with self._lock:
            renders, seconds = self._renders, self._render_seconds
        yield SummaryMetricFamily(render, render_help, count_value=renders, sum_value=seconds, unit="seconds")
