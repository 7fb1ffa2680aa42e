"""What Prometheus stores of simulated runs: their scrapes, gaps and staleness, in promtool's notation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from tests.alerts.rule_cases.exposition import Key, Labels, heads_of, samples
from tests.alerts.rule_cases.notation import GAP, STALE, Value, compressed, selector
from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS, Run


def series(*runs: Run, seconds: float) -> dict[str, str]:
    """All series that Prometheus stores for these runs and their targets, in promtool's notation.

    If two runs share a series, as after a restart under the same labels, the later run wins.
    """
    merged: dict[str, list[Value]] = {}
    for run in runs:
        for (name, labels), values in _columns(run, seconds).items():
            full = _named(run, name, labels)
            before = merged.get(full, values)
            merged[full] = [old if new is GAP else new for old, new in zip(before, values, strict=True)]
    return {name: compressed(values) for name, values in merged.items()}


def _columns(run: Run, seconds: float) -> dict[Key, list[Value]]:
    ticks = int(seconds // SCRAPE_SECONDS) + 1
    columns: dict[Key, list[Value]] = defaultdict(lambda: [GAP] * ticks)
    before: dict[Key, float] = {}
    # Prometheus marks the series of a target stale two intervals after it has left discovery.
    late = 2 * run.scrape_every // SCRAPE_SECONDS
    dropped = math.ceil(run.removed / SCRAPE_SECONDS) + late if math.isfinite(run.removed) else ticks
    for tick, shown in enumerate(_scrapes(run, ticks)):
        now = tick * SCRAPE_SECONDS
        if tick != dropped and (now >= run.removed or now % run.scrape_every):
            continue
        current = shown or {}
        if run.start <= now < run.removed:
            current = {("up", ()): float(shown is not None), **current}
        for key, value in current.items():
            columns[key][tick] = value
        for key in before.keys() - current.keys():
            columns[key][tick] = STALE
        before = current
    return columns


def _named(run: Run, name: str, labels: Labels) -> str:
    target = {"job": "rl-training", "instance": run.instance, **run.labels}
    if name != "up":
        target |= run.sample_labels
    if name not in {"up", "rl_exporter_record_errors_total"}:
        target |= {**run.run_labels, "run_id": run.run_id}
    return selector(name, {**target, **dict(labels)})


def _scrapes(run: Run, ticks: int) -> Iterator[dict[Key, float] | None]:
    """Yield the samples of each scrape, or None if nothing answers or the target is not listed yet."""
    heads = heads_of(run)
    number = 0
    for tick in range(ticks):
        now = tick * SCRAPE_SECONDS
        until = min(now, run.last_update, run.end[0])
        while run.update_time(number + 1) <= until:
            number += 1
            measured = run.policy(number)
            for name, state in heads.items():
                state.update(number, measured[name], run.update_time(number))
        if now < run.start or now >= run.gone or now >= run.removed or now in run.failed_scrapes:
            yield None
        else:
            yield {(name, labels): value for name, labels, value in samples(run, heads, number, now)}
