"""What a fleet costs a real Prometheus that evaluates the shipped rules."""

from __future__ import annotations

import json
import statistics
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

EVALUATIONS = 10
INTERVAL_SECONDS = 15.0


class MeasurementError(RuntimeError):
    """What was measured says nothing, because something did not work; the message says what."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table. Times are seconds, memory bytes, ``rules`` the sum over all groups."""

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
    """The API of a server at ``address``."""

    def __init__(self, address: str) -> None:
        self._base = f"http://{address}"

    def api(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of the API."""
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=60) as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> float:
        """The only value of an instant query; MeasurementError when there is none or several."""
        result = self.api("query", query=expression)["result"]
        if len(result) != 1:
            raise MeasurementError(f"{expression} has {len(result)} values")
        return float(result[0]["value"][1])

    def own(self) -> dict[str, float]:
        """Its own metrics, as they are now."""
        with urllib.request.urlopen(f"{self._base}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        return {
            name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
        }

    def groups(self) -> dict[str, dict[str, Any]]:
        """The groups of rules by name; MeasurementError when a rule fails."""
        groups = {group["name"]: group for group in self.api("rules")["groups"]}
        for group in groups.values():
            for rule in group["rules"]:
                if rule["health"] == "err":
                    raise MeasurementError(f"rule {rule['name']}: {rule['lastError']}")
        return groups


def wait_for(prometheus: Prometheus, runs: int, seconds: float = 180) -> None:
    """Wait until all runs are scraped and all of them have updates; MeasurementError if they never are."""
    deadline = time.monotonic() + seconds
    wanted = 'count(up{job="rl-training"} == 1) or vector(0)'
    while prometheus.value(wanted) < runs:
        if time.monotonic() > deadline:
            raise MeasurementError(f"{prometheus.value(wanted):.0f} of {runs} runs are scraped")
        time.sleep(2)


def measure(prometheus: Prometheus, runs: int) -> Measurement:
    """Ten evaluations of every rule, and what Prometheus took meanwhile."""
    before, started = prometheus.own(), time.monotonic()
    seen: list[dict[str, dict[str, Any]]] = []
    for _ in range(EVALUATIONS):
        time.sleep(INTERVAL_SECONDS)
        seen.append(prometheus.groups())
    after, elapsed = prometheus.own(), time.monotonic() - started
    _require_whole(prometheus, runs, before, after)
    sums = [sum(group["evaluationTime"] for group in groups.values()) for groups in seen]
    each = {name: statistics.median(groups[name]["evaluationTime"] for groups in seen) for name in seen[0]}
    scrapes = 'scrape_duration_seconds{job="rl-training"}'
    appended = "prometheus_tsdb_head_samples_appended_total"
    scans = "prometheus_sd_file_scan_duration_seconds"
    return Measurement(
        runs=runs,
        series=round(after["prometheus_tsdb_head_series"]),
        samples_per_second=_grown(before, after, appended) / elapsed,
        memory=after["process_resident_memory_bytes"],
        cores=_grown(before, after, "process_cpu_seconds_total") / elapsed,
        scrape_median=prometheus.value(f"median({scrapes})".replace("median(", "quantile(0.5, ")),
        scrape_p99=prometheus.value(f"quantile(0.99, {scrapes})"),
        rules=statistics.median(sums),
        groups=each,
        alerts=round(prometheus.value('count(ALERTS{alertstate="firing"})')),
        file_scan=after[f"{scans}_sum"] / after[f"{scans}_count"],
    )


def _grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return sum(value - before.get(key, 0) for key, value in after.items() if key.partition("{")[0] == name)


def _require_whole(
    prometheus: Prometheus, runs: int, before: dict[str, float], after: dict[str, float]
) -> None:
    if _grown(before, after, "prometheus_rule_group_iterations_missed_total"):
        raise MeasurementError("evaluations were missed: this machine is too small for this fleet")
    judged = prometheus.value("count(head:rl_policy_effective_entropy:ratio)")
    if not 7.5 * runs < judged < 9 * runs:
        raise MeasurementError(f"{judged:.0f} heads have a ratio; {runs} runs have {8 * runs}")
