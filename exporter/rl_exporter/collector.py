"""From snapshots to exposition text: the collector, and a renderer that keeps what did not change."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any, cast

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
from rl_exporter.metric import Metric
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
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


def live_families(snapshot: SanctumSnapshot) -> Iterator[Family]:
    """The families that can change at any moment."""
    return (_family(metric, snapshot) for metric in LIVE_METRICS)


class _Families(Collector):
    """A collector over families that are already there."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _registry(families: Iterable[Family]) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return registry


def _format(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is no number: answer as if nothing had been asked for
        return choose_encoder("")


class Renderer:
    """Renders /metrics: the update's part once per update and format, the live part every time."""

    def __init__(self, snapshot: Callable[[], SanctumSnapshot]) -> None:
        self._snapshot = snapshot
        self._process = ProcessCollector(registry=None)
        self._build = [version(DISTRIBUTION), platform.python_version()]
        self._lock = threading.Lock()
        self._cache: dict[str, tuple[TamiyoState, bytes]] = {}
        self._renders = 0
        self._render_seconds = 0.0

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for an Accept header; the whole body shows one update."""
        started = time.perf_counter()
        encoder, content_type = _format(accept)
        snapshot = self._snapshot()
        body = self._update_part(snapshot, content_type, encoder) + encoder(_registry(self._live(snapshot)))
        with self._lock:
            self._renders += 1
            self._render_seconds += time.perf_counter() - started
        return body, content_type

    def _update_part(
        self, snapshot: SanctumSnapshot, content_type: str, encoder: Callable[[CollectorRegistry], bytes]
    ) -> bytes:
        tamiyo, text = self._cache.get(content_type, (None, b""))
        if tamiyo is not snapshot.tamiyo:
            text = encoder(_registry(update_families(snapshot))).removesuffix(_EOF)
            if len(self._cache) >= _FORMATS:  # clients choose versions; they must not choose our memory
                self._cache.clear()
            self._cache[content_type] = (snapshot.tamiyo, text)
        return text

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
