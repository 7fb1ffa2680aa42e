"""What one refresh of each dashboard costs a real Prometheus: CPU seconds, 200 runs, an hour of samples.

    make bench-dashboards

Simulated runs are scraped ten times as often as usual, so that six minutes hold the samples of an hour. Then
nothing is scraped or evaluated any more, and each query runs as Grafana would send it; Prometheus' own CPU time
is read before and after. Exits with 1 where a dashboard costs more than its budget.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.simulated_fleet.fleet import fleet
from rl_dashboards.__main__ import FOLDER
from stack.grafana import interpolated
from stack.processes import Binaries, Process, Stack
from stack.servers import find_server

BUDGET_SECONDS = 0.3
FASTER = 10
RANGE_SECONDS = 3600 / FASTER
LOOKBACK_SECONDS = 300 / FASTER
"""How far back Prometheus looks for the last sample of a series, by default five minutes."""

POINTS = 240
"""Steps of a graph over an hour: one for each scrape, which is the finest that the data source asks for."""

REPETITIONS = 20
ONE_RUN = {"rl-heads", "rl-run"}


def main() -> int:
    """Entry point. Returns 1 where a dashboard is over its budget."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    prometheus = find_server("prometheus", "prometheus", options.servers)
    with tempfile.TemporaryDirectory(prefix="rl-dashboards-") as folder:
        stack = Stack(Path(folder), Binaries(prometheus=prometheus), faster=FASTER)
        with stack:
            costs = _measured(stack, options.runs, options.seconds, each=options.each)
    for uid, seconds in costs.items():
        print(f"{uid:<12} {seconds:6.3f} CPU s a refresh")
    return int(max(costs.values()) > BUDGET_SECONDS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=RANGE_SECONDS, help="time that is scraped and shown")
    parser.add_argument("--each", action="store_true", help="also print what each query costs")
    parser.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    return parser


def _measured(stack: Stack, runs: int, seconds: float, *, each: bool) -> dict[str, float]:
    targets = stack.folder / "prometheus/targets"
    with fleet(targets, runs):
        # Else a query would look at the samples of ten times as much time as usual.
        process = stack.start_prometheus(f"--query.lookback-delta={LOOKBACK_SECONDS:g}s")
        time.sleep(seconds + 15)
        (run,) = _ask(stack.prometheus, {"query": "topk(1, rl_training_updates_total)"})
        end = time.time()
        _freeze(stack, process)
    chosen = {"run_id": run["metric"]["run_id"], "cluster": run["metric"]["cluster"], "namespace": ""}
    boards = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("dashboards/*.json"))}
    costs = dict.fromkeys(boards, 0.0)
    for uid, board in boards.items():
        for title, query in _queries(uid, board, chosen, end, seconds):
            cost = _cost(stack.prometheus, process, query)
            costs[uid] += cost
            if each:
                print(f"{uid:<12} {cost:6.3f}  {title}", flush=True)
    return costs


def _freeze(stack: Stack, process: Process) -> None:
    """Let Prometheus scrape and evaluate nothing more, so that its CPU time is that of the queries."""
    configuration = stack.folder / "prometheus/prometheus.yml"
    configuration.write_text("global: {scrape_interval: 1h, evaluation_interval: 1h}\n", encoding="utf-8")
    process.popen.send_signal(signal.SIGHUP)
    time.sleep(5)


def _queries(
    uid: str, board: Mapping[str, Any], chosen: Mapping[str, str], end: float, seconds: float
) -> Iterator[tuple[str, dict[str, str]]]:
    values = dict.fromkeys(("cluster", "namespace", "run_id", "head", "environment_metric"), ".*")
    values |= dict(chosen) if uid in ONE_RUN else {}
    values |= {"__range": f"{seconds:.0f}s", "__rate_interval": "6s", "__interval": "1500ms"}
    values |= {"head": "op"} if uid == "rl-compare" else {}
    for panel in board["panels"]:
        points = min(panel.get("maxDataPoints") or POINTS, POINTS)
        for target in panel.get("targets", []):
            arguments = {"query": interpolated(target["expr"], values)}
            if target.get("range"):
                span = {"start": end - seconds, "end": end, "step": seconds / points}
                yield panel["title"], arguments | {name: f"{value:.3f}" for name, value in span.items()}
            else:
                yield panel["title"], arguments | {"time": f"{end:.3f}"}


def _cost(address: str, process: Process, arguments: Mapping[str, str]) -> float:
    before = _cpu_seconds(process)
    for _ in range(REPETITIONS):
        _ask(address, arguments)
    return (_cpu_seconds(process) - before) / REPETITIONS


def _cpu_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ask(address: str, arguments: Mapping[str, str]) -> list[Any]:
    path = "query_range" if "start" in arguments else "query"
    data = urllib.parse.urlencode(arguments).encode()
    with urllib.request.urlopen(f"http://{address}/api/v1/{path}", data, timeout=60) as response:
        return list(json.load(response)["data"]["result"])


if __name__ == "__main__":
    sys.exit(main())
