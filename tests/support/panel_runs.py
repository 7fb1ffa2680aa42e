"""Runs for the tests of the panel: small made-up ones, and a recorded drill."""

import json

from rl_exporter import Head, HeadMeasurement, Heads, HeadState, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.panel.observed_run import ObservedRun
from rl_exporter.panel.sources import Backoff, LocalSource
from rl_exporter.view.history import History
from tests.support import ROOT

NOW = 1_760_000_000.0

DRILL = ROOT / "tests/exporter/panel/drill.jsonl"
"""What a run of `make drill` measured, one update a line, to six decimals."""

DRILL_HEADS = Heads(
    [
        Head("op", 6),
        Head("slot", 3),
        Head("blueprint", 13),
        Head("style", 4, 1.2),
        Head("tempo", 3, 1.3),
        Head("alpha_target", 3, 1.2),
        Head("alpha_speed", 4, 1.2),
        Head("alpha_curve", 5, 1.2),
    ]
)


STATES = {
    HeadState.EXPLODING: (HeadMeasurement(0.9, 0.7, 1.0, 1.0, 5.5), "▲", "red"),
    HeadState.DEAD: (HeadMeasurement(0.01, 0.05, 1.0, 1.0, 0.001), "○", "red"),
    HeadState.DETERMINISTIC: (HeadMeasurement(0.01, 0.05, 1.0, 1.0, 0.1), "◆", "yellow"),
    HeadState.CONFUSED: (HeadMeasurement(1.3, 0.95, 1.0, 1.0, 0.1), "◐", "yellow"),
    HeadState.HEALTHY: (HeadMeasurement(0.9, 0.7, 1.0, 1.0, 0.1), "●", "green"),
    HeadState.UNSETTLED: (HeadMeasurement(0.5, 0.4, 1.0, 1.0, 0.1), "•", None),
}
"""For each state a measurement that leads to it, its symbol, and its colour."""


def run_of(measurements, sizes=None, run_id="run", multipliers=None, **payload):
    """An aggregator after one update of heads named as in ``measurements``."""
    heads = Heads([Head(n, (sizes or {}).get(n, 4), (multipliers or {}).get(n, 1.0)) for n in measurements])
    aggregator = SanctumAggregator(heads, RunInfo(run_id), clock=lambda: NOW)
    aggregator.handle_ppo_update(PPOUpdatePayload(heads=measurements, **payload))
    return aggregator


def ratio_run(ratio, run_id="run"):
    """A run of one head whose normalized and choice entropy are ``ratio``."""
    head = Head("op", 4)
    return run_of({"op": HeadMeasurement(ratio * head.max_entropy, ratio, 1.0, 1.0, 0.2, 1.1)}, run_id=run_id)


def many_heads(count):
    return run_of({f"head_{i}": HeadMeasurement(1.0, 0.7, 0.5, 0.9, 0.1, 1.1) for i in range(count)})


def drill():
    """The recorded drill: one snapshot per update."""
    aggregator = SanctumAggregator(DRILL_HEADS, RunInfo("drill"), clock=lambda: NOW)
    for line in DRILL.read_text().splitlines():
        update = json.loads(line)
        heads = {name: HeadMeasurement(*values) for name, values in update.pop("heads").items()}
        aggregator.handle_ppo_update(PPOUpdatePayload(heads=heads, **update))
        yield aggregator.snapshot()


def drill_with_history():
    history = History()
    for snapshot in drill():
        history.add(snapshot)
    return snapshot, history


class ScriptedSource:
    """Gives what it is told to: sightings, or errors to raise; the last one again and again."""

    def __init__(self, *outcomes, name="http://trainer:28008/metrics"):
        self.outcomes = list(outcomes)
        self.name, self.scope = name, ("", "")
        self.reads = 0

    def read(self):
        self.reads += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now=NOW):
        self.now = now

    def __call__(self):
        return self.now


def watched(source, clock=None, interval=0.1):
    clock = clock or Clock(NOW + 2)
    return ObservedRun(source, Backoff(interval), timeout=5.0, clock=clock, monotonic=clock)


def watched_run(aggregator, name="http://trainer:28008/metrics"):
    return watched(LocalSource(aggregator.snapshot, name))
