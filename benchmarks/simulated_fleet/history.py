"""Makes up the history of a fleet for a new Prometheus: the cost of a rule depends on the range it reads.

It contains every series that the rules read with a range, as far back as they read it, for the current runs and
for runs that have ended within that time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.simulated_fleet.run import update_period
from rl_exporter.alerting.bundle import shipped
from rl_training.action_space import HEADS

SCRAPE_SECONDS = 15.0
_SLICE_SECONDS = 1500.0
"""Prometheus accepts samples up to an hour older than the newest one."""

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = r"(?:\d+[smh])+"
_RANGE = re.compile(rf"([a-zA-Z_:][\w:]*(?:\{{[^}}]*\}})?)\[({_DURATION})\](?: offset ({_DURATION}))?")

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Life:
    """A past run, or the past of a current one. Times are Unix seconds."""

    run_id: str
    instance: str
    start: float
    end: float
    period: float
    ended: bool

    def updates(self, times: Times) -> Times:
        """Number of the last update at each time."""
        return np.asarray(np.floor((times - self.start) / self.period), np.float64)


Values = Callable[[Life, Times, np.random.Generator], Times]


def _running(life: Life, times: Times, _random: np.random.Generator) -> Times:
    values = np.ones_like(times)
    values[times > life.end - SCRAPE_SECONDS] = not life.ended
    return values


def _constant(value: float) -> Values:
    return lambda _life, times, _random: np.full_like(times, value)


def _start(life: Life, times: Times, _random: np.random.Generator) -> Times:
    return np.full_like(times, life.start)


def _last_update(life: Life, times: Times, _random: np.random.Generator) -> Times:
    return life.start + life.period * life.updates(times)


_HEADS = tuple(f'head="{name}"' for name in HEADS.names)

_MODEL: Mapping[str, tuple[tuple[str, ...], Values]] = {
    'rl_training_run_state{state="running"}': (("",), _running),
    'rl_training_run_state{state="failed"}': (("",), _constant(0)),
    "rl_training_start_timestamp_seconds": (("",), _start),
    "rl_training_last_update_timestamp_seconds": (("",), _last_update),
    'up{job="rl-training"}': (("",), _constant(1)),
    "rl_exporter_record_errors_total": (("",), _constant(0)),
    "rl_policy_head_nonfinite_values_total": (
        tuple(f'{head},kind="{kind}"' for head in _HEADS for kind in ("nan", "inf")),
        _constant(0),
    ),
}
"""Labels and values of the series of each selector."""

_OF_TARGETS = {"up", "rl_exporter_record_errors_total"}
"""Series without a run_id."""

_SELDOM = (
    r"up$|target:up:|ALERTS|prometheus_|vmalert_|alertmanager_|head:\S+:sustained|run:|rl_policy_head_condition_since"
    r"|rl_policy_head_controller_"
)
"""Selectors that need no history: few series of a healthy fleet match, or a minute of scraping fills them."""


def looked_back() -> dict[str, float]:
    """Longest range in seconds that the rules read, by selector."""
    found: dict[str, float] = {}
    for path in (*shipped().glob("prometheus/rules/*.yml"), *shipped().glob("alerts/rules/*.yml")):
        groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        # Not the annotations: their queries run for the few alerts that fire.
        for expression in (rule["expr"] for group in groups for rule in group["rules"]):
            for selector, window, offset in _RANGE.findall(expression):
                found[selector] = max(found.get(selector, 0), _seconds(window) + _seconds(offset))
    return found


def _seconds(duration: str) -> float:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))


def past(targets: Path, life: float, now: float) -> Iterator[bytes]:
    """Yield the history of the fleet in ``targets``, one slice of time after another.

    A slice is lines of JSON, one for each series, in the format of vmagent's ``/api/v1/import``. A run lives
    ``life`` seconds on average.
    """
    windows = {key: back for key, back in looked_back().items() if not re.match(_SELDOM, key)}
    first = now - max(windows.values())
    lives = list(_lives(targets, life, now, first))
    while first < now:
        last = min(first + _SLICE_SECONDS, now)
        for selector, back in windows.items():
            if now - back < last:
                lines = (_lines(selector, lived, max(first, now - back), last) for lived in lives)
                yield b"".join(line for several in lines for line in several)
        first = last


def _lives(targets: Path, life: float, now: float, since: float) -> Iterator[Life]:
    """Yield each current run's own past and its predecessors, back to ``since``."""
    random = Random(0)
    for path in sorted(targets.glob("*.json")):
        end, name = now, path.stem
        instance = json.loads(path.read_text(encoding="utf-8"))[0]["targets"][0]
        for before in count():
            start = end - random.expovariate(1 / life) - SCRAPE_SECONDS
            yield Life(name, instance, start, end, update_period(random), ended=before > 0)
            end, name, instance = start - SCRAPE_SECONDS, f"{path.stem}-before-{before}", f"{instance}{before}"
            if end < since:
                break


def _lines(selector: str, life: Life, first: float, last: float) -> Iterator[bytes]:
    """Yield the samples from ``first`` up to ``last``, one line for each series."""
    phase = life.start % SCRAPE_SECONDS
    begin = max(first, life.start)
    begin += (phase - begin) % SCRAPE_SECONDS
    times = np.arange(begin, min(last, life.end), SCRAPE_SECONDS)
    if not len(times):
        return
    name, _, own = selector.removesuffix("}").partition("{")
    labels, values = _MODEL[selector]
    random = np.random.default_rng(int(life.start))
    metric = {"__name__": name, "job": "rl-training", "instance": life.instance, "cluster": "fleet"}
    metric |= _pairs(own) | ({} if name in _OF_TARGETS else {"run_id": life.run_id})
    stamps = (times * 1000).astype(np.int64).tolist()
    for more in labels:
        line = {
            "metric": metric | _pairs(more),
            "values": values(life, times, random).tolist(),
            "timestamps": stamps,
        }
        yield json.dumps(line).encode() + b"\n"


def _pairs(text: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', text))
