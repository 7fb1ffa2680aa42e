"""Measures what a fleet costs a real Prometheus that evaluates the shipped rules."""

from __future__ import annotations

import json
import statistics
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EVALUATIONS = 10
INTERVAL_SECONDS = 15.0


class MeasurementError(RuntimeError):
    """Something did not work, so the measurement would be wrong. The message says what."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table. Times in seconds, memory in bytes.

    ``rules``: evaluation time of all groups in an interval of 15 s. ``groups``: that of each group.
    """

    runs: int
    series: int
    samples_per_second: float
    memory: float
    cores: float
    scrape_median: float
    scrape_p99: float
    rules: float
    groups: dict[str, float]
    alerts: int
    file_scan: float


class Prometheus:
    """Client of the HTTP API of the server at ``address``."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"

    def api(self, path: str, **parameters: str) -> Any:
        """Call the API and return its ``data``."""
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> float:
        """The single value of an instant query. Raises MeasurementError if there are none or several."""
        result = self.api("query", query=expression)["result"]
        if len(result) != 1:
            raise MeasurementError(f"{expression} has {len(result)} values")
        return float(result[0]["value"][1])

    def own_metrics(self) -> dict[str, float]:
        """The server's current /metrics."""
        with urllib.request.urlopen(f"{self._base}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        return {
            name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def groups(self) -> dict[str, dict[str, Any]]:
        """The rule groups by name. Raises MeasurementError if a rule fails."""
        groups = {group["name"]: group for group in self.api("rules")["groups"]}
        for group in groups.values():
            for rule in group["rules"]:
                if rule["health"] == "err":
                    raise MeasurementError(f"rule {rule['name']}: {rule['lastError']}")
        return groups


def wait_for(prometheus: Prometheus, runs: int, seconds: float = 180) -> None:
    """Wait until all runs are scraped. Raises MeasurementError after ``seconds``."""
    deadline = time.monotonic() + seconds
    wanted = 'count(up{job="rl-training"} == 1) or vector(0)'
    while prometheus.value(wanted) < runs:
        if time.monotonic() > deadline:
            raise MeasurementError(f"{prometheus.value(wanted):.0f} of {runs} runs are scraped")
        time.sleep(2)


def measure(prometheus: Prometheus, runs: int) -> Measurement:
    """Measure what Prometheus uses during ten evaluations of every rule."""
    before, started = prometheus.own_metrics(), time.monotonic()
    samples: list[dict[str, dict[str, Any]]] = []
    for _ in range(EVALUATIONS):
        time.sleep(INTERVAL_SECONDS)
        samples.append(prometheus.groups())
    after, elapsed = prometheus.own_metrics(), time.monotonic() - started
    _require_complete(prometheus, runs, before, after)
    times = [{name: interval_time(group) for name, group in groups.items()} for groups in samples]
    sums = [sum(found.values()) for found in times]
    each = {name: statistics.median(found[name] for found in times) for name in times[0]}
    scrapes = 'scrape_duration_seconds{job="rl-training"}'
    appended = "prometheus_tsdb_head_samples_appended_total"
    scans = "prometheus_sd_file_scan_duration_seconds"
    return Measurement(
        runs=runs,
        series=round(after["prometheus_tsdb_head_series"]),
        samples_per_second=_increase(before, after, appended) / elapsed,
        memory=after["process_resident_memory_bytes"],
        cores=_increase(before, after, "process_cpu_seconds_total") / elapsed,
        scrape_median=prometheus.value(f"median({scrapes})".replace("median(", "quantile(0.5, ")),
        scrape_p99=prometheus.value(f"quantile(0.99, {scrapes})"),
        rules=statistics.median(sums),
        groups=each,
        alerts=round(prometheus.value('count(ALERTS{alertstate="firing"})')),
        file_scan=after[f"{scans}_sum"] / after[f"{scans}_count"],
    )


def interval_time(group: Mapping[str, Any]) -> float:
    """Seconds that a rule group takes in an interval of 15 s: of a slower group, a share of its evaluation."""
    return float(group["evaluationTime"] * INTERVAL_SECONDS / group["interval"])


def _increase(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return sum(value - before.get(key, 0) for key, value in after.items() if key.partition("{")[0] == name)


def _require_complete(
    prometheus: Prometheus, runs: int, before: dict[str, float], after: dict[str, float]
) -> None:
    if _increase(before, after, "prometheus_rule_group_iterations_missed_total"):
        raise MeasurementError("evaluations were missed: this machine is too small for this fleet")
    judged = prometheus.value("count(head:rl_policy_effective_entropy:ratio)")
    if not 7.5 * runs < judged < 9 * runs:
        raise MeasurementError(f"{judged:.0f} heads have a ratio; {runs} runs have {8 * runs}")
