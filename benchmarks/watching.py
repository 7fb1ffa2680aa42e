"""Measures what a watcher costs the run that it watches.

This program starts `rl-train` and, in turns, leaves it alone and polls it with the panel's fetcher. It polls
tens of times a second, so that the cost rises above the noise, and scales the result to the interval of `rl-
exporter watch`. It reads the trainer's CPU time per update from /metrics. The peer scrapes the same address as
often, as Prometheus does: OpenMetrics with gzip.
"""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import urllib3

from rl_exporter.cli.watch import INTERVAL_SECONDS
from rl_exporter.client.addresses import Target, parse_target
from rl_exporter.client.fetch import Fetcher

WINDOW_SECONDS = 6.0
ROUNDS = 5
POLL_SECONDS = 0.02

PROMETHEUS = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}


@contextmanager
def trainer() -> Iterator[Target]:
    """Start a run that trains as fast as it can."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [
        "--env",
        "heads",
        "--env-arg",
        "consult=table",
        "--quiet",
        "--linger",
        "0",
        "--updates",
        "1000000",
    ]
    process = subprocess.Popen([sys.executable, "-m", "rl_training", *options, "--listen", address])
    try:
        target = parse_target(address)
        while True:
            try:
                if Fetcher().fetch(target).snapshot.tamiyo.updates > 5:
                    break
            except Exception:  # noqa: BLE001 - not up yet
                pass
            time.sleep(0.2)
        yield target
    finally:
        process.terminate()
        process.wait()


def cpu_and_updates(target: Target) -> tuple[float, float]:
    """CPU seconds and updates of the run so far."""
    text = urllib3.request("GET", target.url).data.decode()
    cpu = re.search(r"^process_cpu_seconds_total (\S+)", text, re.MULTILINE)
    updates = re.search(r"^rl_training_updates_total\S* (\S+)", text, re.MULTILINE)
    assert cpu is not None
    assert updates is not None
    return float(cpu[1]), float(updates[1])


class Window(NamedTuple):
    """CPU seconds per update, updates per second, and polls per second."""

    cost: float
    rate: float
    polls: float


def window(target: Target, poll: Callable[[], object] | None) -> Window:
    """Measure the run while ``poll`` is repeated, or without polls."""
    stop = threading.Event()
    polls = 0

    def watch() -> None:
        nonlocal polls
        while poll is not None and not stop.wait(POLL_SECONDS):
            poll()
            polls += 1

    watcher = threading.Thread(target=watch)
    began, (cpu, updates) = time.monotonic(), cpu_and_updates(target)
    watcher.start()
    time.sleep(WINDOW_SECONDS)
    stop.set()
    watcher.join()
    seconds, (cpu_after, updates_after) = time.monotonic() - began, cpu_and_updates(target)
    done = updates_after - updates
    return Window((cpu_after - cpu) / done, done / seconds, polls / seconds)


def main() -> None:
    """Measure and print the figures."""
    with trainer() as target:
        fetcher, pool = Fetcher(), urllib3.PoolManager()
        polls: dict[str, Callable[[], object] | None] = {
            "alone": None,
            "watched": lambda: fetcher.fetch(target),
            "scraped": lambda: pool.request("GET", target.url, headers=PROMETHEUS),
        }
        windows: dict[str, list[Window]] = {name: [] for name in polls}
        for turn in range(ROUNDS):
            for name in list(polls)[:: 1 if turn % 2 else -1]:
                windows[name].append(window(target, polls[name]))
    alone, watched, scraped = (Window(*map(statistics.median, zip(*windows[n], strict=True))) for n in polls)
    print(f"trainer alone                   {alone.cost * 1e3:8.2f} ms CPU per update")
    for name, found in (("watched", watched), ("scraped (peer)", scraped)):
        more = found.cost / alone.cost - 1
        usual = more / (found.polls * INTERVAL_SECONDS)
        print(
            f"{name:15}{found.polls:5.1f} times a s    {found.cost * 1e3:8.2f} ms CPU per update {more:+8.2%}"
        )
        print(f"  as often as the panel, every {INTERVAL_SECONDS:g} s                            {usual:+8.3%}")


if __name__ == "__main__":
    main()
