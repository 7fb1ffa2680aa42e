"""Renders the table of docs/scale.md."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.marked_page import replaced
from benchmarks.simulated_fleet.measurement import INTERVAL_SECONDS, Measurement

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_MIB = 2**20
_HEADER = """\
| runs | series | samples/s | memory | Prometheus CPU | scrape, median and 99 % | rules | of the interval |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def written(page: str, rows: Sequence[Measurement], machine: str) -> str:
    """Replace what stands between the markers of ``page`` by these rows. Raises ValueError without markers."""
    return replaced(page, BEGIN, END, f"{table(rows)}\n{slopes(rows)}{machine}\n")


def table(rows: Sequence[Measurement]) -> str:
    """A Markdown table with one line for each size."""
    return _HEADER + "".join(_row(row) for row in rows)


def _row(row: Measurement) -> str:
    cells = (
        f"{row.runs:,}",
        f"{row.series:,}",
        f"{row.samples_per_second:,.0f}",
        f"{row.memory / _MIB:,.0f} MiB",
        f"{row.cores:.2f} cores",
        f"{1000 * row.scrape_median:.0f} and {1000 * row.scrape_p99:.0f} ms",
        f"{row.rules:.2f} s",
        f"{row.rules / INTERVAL_SECONDS:.1%}",
    )
    return f"| {' | '.join(cells)} |\n"


def slopes(rows: Sequence[Measurement]) -> str:
    """A sentence on what another thousand runs cost, by least squares. Empty for a single size."""
    if len({row.runs for row in rows}) < 2:
        return ""
    runs = [row.runs for row in rows]
    rules = statistics.linear_regression(runs, [row.rules for row in rows]).slope
    memory = statistics.linear_regression(runs, [row.memory for row in rows]).slope
    cores = statistics.linear_regression(runs, [row.cores for row in rows]).slope
    return (
        f"Another thousand runs cost {1000 * rules:.2f} s of rules an interval, "
        f"{1000 * memory / _MIB:,.0f} MiB and {1000 * cores:.2f} cores.\n\n"
    )


def machine(prometheus: Path) -> str:
    """A sentence on the machine and the Prometheus."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = subprocess.run([prometheus, "--version"], capture_output=True, text=True, check=True)
    release = (said.stdout or said.stderr).split()[2]
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, Prometheus {release}; "
        "the simulated runs share the cores with it."
    )
