"""Simulates runs for a real Prometheus, and measures what fleets of several sizes cost it.

    python -m benchmarks.fleet simulate --runs 50 --targets prometheus/targets
    make bench-fleet

The first simulates runs that start, train and end until Ctrl-C: real exporters, each with a target file. The
second starts a Prometheus for each size, with the shipped configuration and rules and with the history that the
rules read, and writes the table of docs/scale.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.simulated_fleet.fleet import LIFE_SECONDS, fleet
from benchmarks.simulated_fleet.history import past
from benchmarks.simulated_fleet.measurement import Measurement, Prometheus, measure, wait_for
from benchmarks.simulated_fleet.push import write_past
from benchmarks.simulated_fleet.table import machine, table, written
from stack.processes import Binaries, Stack
from stack.servers import find_alertmanager, find_server

HEAD_SECONDS = 2.5 * 3600
"""Prometheus keeps the series of an ended run in memory for two to three hours."""

SETTLED_SECONDS = 60.0
"""Four evaluations of the rules, before measuring a complete fleet."""


def main() -> int:
    """Entry point."""
    options = _parser().parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # leave through the context managers, which end the fleet
    if options.command == "simulate":
        return simulate(options)
    rows: list[Measurement] = []
    for runs in options.sizes:
        rows.append(measure_fleet(runs, options.servers, options.life))
        print(rows[-1], flush=True)
    print(table(rows))
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        found = machine(find_server("prometheus", "prometheus", options.servers))
        options.write.write_text(written(text, rows, found), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    simulation = commands.add_parser("simulate", help="run simulated runs until Ctrl-C")
    simulation.add_argument("--runs", type=int, default=50)
    simulation.add_argument(
        "--targets", type=Path, required=True, help="folder in which Prometheus discovers runs"
    )
    measuring = commands.add_parser("measure", help="measure fleets of several sizes")
    measuring.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000, 3000])
    measuring.add_argument("--servers", type=Path, default=Path(".servers"), help="where servers are unpacked")
    measuring.add_argument("--write", type=Path, metavar="PAGE", help="write the table into this page")
    for command in (simulation, measuring):
        command.add_argument("--life", type=float, default=LIFE_SECONDS, help="mean seconds that a run lives")
    return parser


def simulate(options: argparse.Namespace) -> int:
    """Simulate a fleet until Ctrl-C."""
    with fleet(options.targets, options.runs, options.life):
        print(f"{options.runs} runs are listed in {options.targets}, until Ctrl-C", flush=True)
        while True:
            time.sleep(60)


def measure_fleet(runs: int, servers: Path, life: float) -> Measurement:
    """Measure a new Prometheus with this many runs."""
    prometheus = find_server("prometheus", "prometheus", servers)
    binaries = Binaries(prometheus=prometheus, alertmanager=find_alertmanager(servers))
    with tempfile.TemporaryDirectory(prefix="rl-fleet-") as folder, Stack(Path(folder), binaries) as stack:
        targets = stack.folder / "prometheus/targets"
        with fleet(targets, runs, life):
            vmagent = find_server("vmagent", "victoria-metrics", servers)
            write_past(stack, prometheus, vmagent, past(targets, life, time.time()))
            stack.start_pages()
            stack.start_alertmanager()
            stack.start_prometheus()
            server = Prometheus(stack.prometheus)
            wait_for(server, runs)
            with fleet(targets, round(runs * HEAD_SECONDS / life), life=None, name="brief"):
                time.sleep(SETTLED_SECONDS)
                return measure(server, runs)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(0)
