"""Worlds of simulated runs for real servers: what the dashboards must tell apart, many runs behind one address."""

import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

from prometheus_client import CollectorRegistry, generate_latest

from rl_exporter import HeadMeasurement, PPOUpdatePayload, RunInfo, RunState, SanctumAggregator
from rl_exporter.collector import HeadCollector
from rl_training.action_space import HEADS

WELL = {"ratio": 0.75, "information": 0.4, "gradient": 0.2}
KINDS = {
    "well": WELL,
    "nearly uniform": WELL | {"ratio": 0.95},
    "collapsed": WELL | {"ratio": 0.12, "information": 0.001},
    "low": WELL | {"ratio": 0.4, "information": 0.001},
    "settled": WELL | {"ratio": 0.08},
    "dead": WELL | {"ratio": 0.02, "information": 0.0, "gradient": 0.001},
    "exploding": WELL | {"gradient": 80.0},
    "starved": WELL | {"share": 0.0},
    "closed": WELL | {"share": 0.0, "could": 0.0},
    "diluted": WELL | {"of all steps": 0.1},
}
"""What a head does, as numbers of an update."""

EPOCH = 100
"""Seconds of updates that a run has behind it when it appears."""


def measured(name, random, ratio, information, gradient, share=0.5, could=1.0, **more):
    """One update of one head."""
    head = HEADS.named(name)
    drawn = min(1.0, ratio * random.uniform(0.97, 1.03))
    leading = 1 - drawn * (1 - 1 / head.choices)
    shares = (leading, *[(1 - leading) / (head.choices - 1)] * (head.choices - 1))
    entropy = more.get("of all steps", drawn) * head.max_entropy
    if not share:
        return HeadMeasurement(entropy=entropy, choice_share=0.0, open_share=could, gradient_norm=gradient)
    return HeadMeasurement(
        entropy=entropy,
        choice_entropy=drawn,
        choice_share=share,
        open_share=could,
        gradient_norm=gradient * random.uniform(0.9, 1.1),
        state_information=information,
        state_information_ratio=min(1.0, information),
        action_shares=shares,
        advantage_margin=0.1,
        advantage_margin_t=1.0,
        importance_ratio_max=1.2,
    )


class SimulatedRun:
    """A run whose heads do what ``heads`` says (a kind by head, ``well`` for the others), once it ``changes``."""

    def __init__(self, name, heads=None, changes=0, updates=20, *, goes_on=True):
        self.name, self.heads, self.changes, self.goes_on = name, heads or {}, changes, goes_on
        self.random = Random(name)
        self.now = time.time() - EPOCH
        info = RunInfo(name, "worlds", "ppo", "simulated", "1", "cpu")
        self.aggregator = SanctumAggregator(HEADS, info, clock=lambda: self.now)
        registry = CollectorRegistry()
        registry.register(HeadCollector(self.aggregator.snapshot))
        self._render = partial(generate_latest, registry)
        for number in range(updates):
            self.now = time.time() - EPOCH * (updates - number - 1) / updates
            self.update()
        self.text = self._render()

    def update(self):
        """One more update, at ``now``."""
        count = self.aggregator.snapshot().tamiyo.updates
        kinds = self.heads if count >= self.changes else {}
        payload = PPOUpdatePayload(
            heads={name: measured(name, self.random, **KINDS[kinds.get(name, "well")]) for name in HEADS.names},
            environment_steps=512,
            episodes=4,
            episode_return=self.random.gauss(10, 1),
            entropy_coefficient=0.02,
            kl_divergence=self.random.uniform(0.005, 0.015),
            clipped_share=self.random.uniform(0.05, 0.2),
            gradient_norm=self.random.uniform(0.1, 1),
            policy_loss=self.random.gauss(0, 0.01),
            value_loss=self.random.uniform(0, 1),
            explained_variance=self.random.uniform(0.2, 0.9),
            rollout_duration=0.7,
            update_duration=0.3,
        )
        self.aggregator.handle_ppo_update(payload)

    def one_more(self):
        """One more update, now, if it is a run that goes on."""
        if not self.goes_on or self.aggregator.snapshot().run_state is not RunState.RUNNING:
            return
        self.now = time.time()
        self.update()
        self.text = self._render()

    def end(self, state):
        """The run says that it has ended."""
        self.aggregator.set_run_state(RunState(state))
        self.text = self._render()


class World:
    """Runs behind one address; they go on with an update every ``period`` seconds."""

    def __init__(self, runs, period=2.0):
        self.runs, self.period = runs, period
        self._stopped = threading.Event()
        self._threads = []

    def __enter__(self):
        world = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self):
                body = b"".join(run.text for run in world.runs)
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(ConnectionError):  # Prometheus has given up
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.address = f"127.0.0.1:{self._server.server_port}"
        for work in (self._server.serve_forever, self._go_on):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def _go_on(self):
        while not self._stopped.wait(self.period):
            for run in self.runs:
                run.one_more()

    def __exit__(self, *_):
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()


def eight():
    """Eight runs, of which each has something else."""
    return [
        SimulatedRun("a-well", {"op": "nearly uniform"}),
        SimulatedRun("b-collapsed", {"blueprint": "collapsed"}),
        SimulatedRun("c-low", {"tempo": "low"}),
        SimulatedRun("d-exploding", {"style": "exploding"}),
        SimulatedRun("e-starved", {"alpha_target": "starved", "alpha_speed": "closed"}),
        SimulatedRun("f-settled", {"slot": "settled", "op": "settled"}),
        SimulatedRun("g-dead", {"alpha_curve": "dead"}),
        SimulatedRun("h-diluted", {"slot": "diluted"}),
    ]


FLEET_SIZE, EXPLODING = 200, (77, 129, 161)


def fleet(runs=FLEET_SIZE, exploding=EXPLODING):
    """Healthy runs of different ratios, three of which explode."""
    return [
        SimulatedRun(f"run-{number:03}", {"style": "exploding"} if number in exploding else {}, updates=6)
        for number in range(runs)
    ]


RUNS_PER_ADDRESS = 12
"""Prometheus takes 10,000 samples of one address."""


@contextmanager
def listed(stack, name, runs, period=2.0):
    """Runs that Prometheus scrapes, under a cluster of this name."""
    worlds = [World(runs[at : at + RUNS_PER_ADDRESS], period) for at in range(0, len(runs), RUNS_PER_ADDRESS)]
    with ExitStack() as started:
        entries = []
        for number, world in enumerate(worlds):
            started.enter_context(world)
            entries.append(stack.list_target(f"{name}-{number:02}", world.address, {"cluster": name}))
        yield runs
        for entry in entries:
            entry.unlink(missing_ok=True)
