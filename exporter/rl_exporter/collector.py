"""From snapshots to /metrics: the collector, and a renderer that keeps what did not change."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from gzip import compress
from importlib.metadata import version
from typing import Any, NamedTuple, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from rl_exporter.histogram import Histogram
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS, Metric, environment_metrics
from rl_exporter.snapshot import SanctumSnapshot, TamiyoState

_FAMILIES: dict[str, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
Encoder = Callable[[CollectorRegistry], bytes]

DISTRIBUTION = "rl-policy-exporter"
_EOF = b"# EOF\n"
_LEVEL = 1
"""Of compression: higher levels cost a multiple of the time and save a tenth of the bytes."""

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
    """Yield the metric families of one run. Works in any prometheus_client registry.

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
        """No families. Without this method a registry would collect at registration, and read a snapshot."""
        return []


def update_families(snapshot: SanctumSnapshot) -> Iterator[Family]:
    """The families that change with an update only."""
    return (_family(metric, snapshot) for metric in (*UPDATE_METRICS, *environment_metrics(snapshot)))


def live_families(snapshot: SanctumSnapshot) -> Iterator[Family]:
    """The families that can change at any moment."""
    return (_family(metric, snapshot) for metric in LIVE_METRICS)


class _Families(Collector):
    """A collector over families that are already there."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _encoded(encoder: Encoder, families: Iterable[Family]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return encoder(registry)


def _negotiated(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # the version is no number: answer as if the client had asked for nothing
        return choose_encoder("")


class _UpdatePart(NamedTuple):
    """The families of one update in one format, plain and as a gzip member."""

    tamiyo: TamiyoState
    plain: bytes
    member: bytes


class Renderer:
    """Renders /metrics with the encoders of prometheus_client.

    Most of a body changes with an update only. That part is encoded and compressed once per update and format,
    however many servers scrape; the rest is encoded at each scrape and follows as another gzip member.
    """

    def __init__(self, snapshot: Callable[[], SanctumSnapshot]) -> None:
        self._snapshot = snapshot
        self._process = ProcessCollector(registry=None)
        self._build = [version(DISTRIBUTION), platform.python_version()]
        self._lock = threading.Lock()
        self._kept: dict[str, _UpdatePart] = {}
        self._renders = 0
        self._render_seconds = 0.0

    def render(self, accept: str, *, gzip: bool = False) -> tuple[bytes, str]:
        """Body, compressed or not, and content type for an Accept header; the whole body shows one update."""
        started = time.perf_counter()
        encoder, content_type = _negotiated(accept)
        snapshot = self._snapshot()
        update = self._update_part(snapshot, content_type, encoder)
        live = _encoded(encoder, self._live(snapshot))
        body = update.member + compress(live, _LEVEL, mtime=0) if gzip else update.plain + live
        with self._lock:
            self._renders += 1
            self._render_seconds += time.perf_counter() - started
        return body, content_type

    def _update_part(self, snapshot: SanctumSnapshot, content_type: str, encoder: Encoder) -> _UpdatePart:
        kept = self._kept.get(content_type)
        if kept is None or kept.tamiyo is not snapshot.tamiyo:
            plain = _encoded(encoder, update_families(snapshot)).removesuffix(_EOF)
            kept = _UpdatePart(snapshot.tamiyo, plain, compress(plain, _LEVEL, mtime=0))
            if len(self._kept) >= _FORMATS:  # clients choose versions; they must not choose our memory
                self._kept.clear()
            self._kept[content_type] = kept
        return kept

    def _live(self, snapshot: SanctumSnapshot) -> Iterator[Family]:
        yield from live_families(snapshot)
        yield from self._self_families(snapshot)
        yield from self._process.collect()

    def _self_families(self, snapshot: SanctumSnapshot) -> Iterator[Family]:
        (info, _, labels, info_help), (errors, _, _, errors_help), *others = SELF_METRICS
        (dropped, _, fields, dropped_help), (render, _, _, render_help) = others
        build = GaugeMetricFamily(info, info_help, labels=labels)
        build.add_metric(self._build, 1.0)
        yield build
        yield CounterMetricFamily(errors, errors_help, value=snapshot.record_errors)
        values = CounterMetricFamily(dropped, dropped_help, labels=fields)
        for field, number in snapshot.dropped:
            values.add_metric([field], number)
        yield values
        with self._lock:
            renders, seconds = self._renders, self._render_seconds
        yield SummaryMetricFamily(render, render_help, count_value=renders, sum_value=seconds, unit="seconds")
