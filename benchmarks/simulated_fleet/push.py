"""Writes past samples to a Prometheus, through vmagent, which converts JSON lines to remote write."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from benchmarks.simulated_fleet.measurement import MeasurementError, Prometheus
from stack.processes import Stack, free_address

_APPENDED = "prometheus_tsdb_head_samples_appended_total"
_TIMEOUT_SECONDS = 120.0
"""Time limit for one slice to arrive."""


def write_past(stack: Stack, prometheus: Path, vmagent: Path, slices: Iterable[bytes]) -> None:
    """Fill the storage of ``stack``'s Prometheus before it starts. ``slices`` are in order of time.

    A second Prometheus without scrape targets receives them, because one that has scraped rejects samples much
    older than its newest. Raises MeasurementError if it does not accept every sample.
    """
    address, receiver = free_address(), free_address()
    (stack.folder / "nothing.yml").write_text("global: {}\n", encoding="utf-8")
    server = stack.start(
        "prometheus-past",
        str(prometheus),
        "--web.enable-remote-write-receiver",
        f"--config.file={stack.folder / 'nothing.yml'}",
        f"--storage.tsdb.path={stack.folder / 'data/prometheus'}",
        f"--web.listen-address={receiver}",
        ready=f"http://{receiver}/-/ready",
    )
    agent = stack.start(
        "vmagent",
        str(vmagent),
        f"-remoteWrite.url=http://{receiver}/api/v1/write",
        f"-remoteWrite.tmpDataPath={stack.folder / 'data/vmagent'}",
        "-remoteWrite.queues=1",  # in order: Prometheus rejects samples of a series that arrive out of order
        f"-httpListenAddr={address}",
        ready=f"http://{address}/health",
    )
    _push(Prometheus(receiver), f"http://{address}/api/v1/import", slices)
    for process in (agent, server):
        process.popen.terminate()
        process.popen.wait(60)


def _push(prometheus: Prometheus, url: str, slices: Iterable[bytes]) -> None:
    sent = 0
    for lines in slices:
        urllib.request.urlopen(url, lines, timeout=60).close()
        sent += sum(line.count(b",", line.rindex(b"[")) + 1 for line in lines.splitlines())
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while (taken := _accepted(prometheus)) < sent:
            if time.monotonic() > deadline:
                raise MeasurementError(
                    f"of {sent} old samples {taken:.0f} were taken within {_TIMEOUT_SECONDS:.0f} s"
                )
            time.sleep(0.5)


def _accepted(prometheus: Prometheus) -> float:
    found = prometheus.own_metrics().items()
    return sum(value for name, value in found if name.partition("{")[0] == _APPENDED)
