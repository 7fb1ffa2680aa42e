"""Runs that come and go through file-based discovery, for a real Prometheus with the shipped configuration."""

import json
import os
import random
import signal
import time
import urllib.parse
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from rl_exporter.cli.main import main as exporter
from stack.processes import Binaries, Stack
from tests.support import trainers
from tests.support.servers import get, query
from tests.support.small_runs import SMALL_UPDATES, lines_so_far
from tests.support.waiting import until

pytestmark = pytest.mark.stack

SCRAPE_SECONDS = 1.0
FASTER = 15.0 / SCRAPE_SECONDS

TRAIN = (
    *("--env", "heads", "--num-envs", "4", "--rollout-steps", "16", *SMALL_UPDATES, "--pace", "0.5"),
    *("--listen", "127.0.0.1:0", "--linger", "60", "--quiet"),
)
FOREVER = 10**6
KILLED = "run-7"


@dataclass
class Run:
    """A run: when it starts, how it ends, and what became of it."""

    name: str
    starts: float
    limit: int
    """Updates after which it is complete."""
    signal: signal.Signals | None
    signalled_after: int
    """Updates."""
    log: Path
    process: BaseProcess | None = None
    address: str = ""
    signalled: bool = False
    ended: float = 0.0

    def updates(self):
        return lines_so_far(self.log)

    def start(self, targets):
        place = ("--register", targets, "--label", f"team={self.name}-team", "--label", "cluster=lab")
        limit = ("--updates", self.limit, "--log-json", self.log)
        self.process = trainers.start(*TRAIN, *place, "--run-id", self.name, *limit)

    def find(self, targets):
        """Take the address from the entry, while it has one."""
        try:
            ((group,),) = [json.loads((targets / f"{self.name}@lab.run.json").read_text())]
            self.address = next(iter(group["targets"]), "")
        except FileNotFoundError:
            return

    def is_due(self, server):
        """Whether it is time for its signal. One that is killed has been scraped: else nothing is known of it."""
        if self.signal is None or self.signalled or len(self.updates()) < self.signalled_after:
            return False
        return self.name != KILLED or query(server, f'rl_training_updates_total{{run_id="{KILLED}"}}') != []

    def step(self, targets, server):
        """Start it, end it, or note what happened, if it is time for that."""
        if self.process is None:
            if time.monotonic() >= self.starts:
                self.start(targets)
        elif not self.ended:
            self.address or self.find(targets)
            if self.is_due(server):
                os.kill(self.process.pid, self.signal)
                self.signalled = True
            if not self.process.is_alive():
                self.ended = time.time()
                assert self.process.exitcode == (-signal.SIGKILL if self.name == KILLED else 0)


def planned(chance, folder):
    """Eight runs. The first is over before it is discovered, three reach a limit, the others get a signal."""
    signals = (None, None, None, None, signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
    now = time.monotonic()
    for number, end in enumerate(signals):
        limit = FOREVER if end else chance.randrange(4, 16) if number else 1
        name = f"run-{number}"
        when, updates = now + chance.uniform(0, 10), chance.randrange(3, 16)
        yield Run(name, when, limit, end, updates, folder / f"{name}.jsonl")


def selected(server, matcher, window="10m"):
    """Raw samples as (labels, [(time, value)]) over the last minutes."""
    return [(row["metric"], row["values"]) for row in query(server, f"{matcher}[{window}]")]


@pytest.fixture(scope="module")
def world(prometheus, tmp_path_factory):
    """Eight runs, started and ended at random, after the last one has ended."""
    folder = tmp_path_factory.mktemp("discovery")
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Stack(folder, Binaries(prometheus=prometheus), faster=FASTER) as stack:
        targets = stack.folder / "prometheus" / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        stack.start_prometheus()
        runs = list(planned(chance, folder))
        try:
            while not all(run.ended for run in runs):
                for run in runs:
                    run.step(targets, stack.prometheus)
                time.sleep(0.02)
        finally:
            for run in runs:
                if run.process:
                    run.process.kill()
                    run.process.join()
        yield stack, runs, targets


def test_every_run_has_exactly_its_own_series(world):
    stack, runs, _ = world
    assert len({run.address for run in runs}) == len(runs)
    for run in runs:
        encoded = urllib.parse.urlencode({"match[]": f'{{run_id="{run.name}",__name__=~"rl_.*"}}'})
        series = json.loads(get(f"http://{stack.prometheus}/api/v1/series?{encoded}"))["data"]
        where = {(one["instance"], one["team"], one["cluster"], one["job"]) for one in series}
        assert where == {(run.address, f"{run.name}-team", "lab", "rl-training")}
        logged = set(run.updates()[-1]) - {"update"}
        assert {one["__name__"] for one in series} >= {name for name in logged if run.updates()[-1][name]}
        assert not any(label.startswith("exported_") for one in series for label in one)
        encoded = urllib.parse.urlencode({"match[]": f'{{instance="{run.address}",run_id!=""}}'})
        at_address = json.loads(get(f"http://{stack.prometheus}/api/v1/series?{encoded}"))["data"]
        assert {one["run_id"] for one in at_address} == {run.name}


def test_the_last_update_of_every_cleanly_ended_run_was_scraped(world):
    stack, runs, _ = world
    for run in runs:
        if run.name == KILLED:
            continue
        last = run.updates()[-1]
        ((_, samples),) = selected(stack.prometheus, f'rl_training_updates_total{{run_id="{run.name}"}}')
        assert int(samples[-1][1]) == last["update"]
        heads = selected(stack.prometheus, f'rl_policy_head_entropy_nats{{run_id="{run.name}"}}')
        shown = {labels["head"]: float(values[-1][1]) for labels, values in heads}
        assert shown == pytest.approx(last["rl_policy_head_entropy_nats"], abs=1e-9)
        state = "interrupted" if run.signalled else "completed"
        final = f'rl_training_run_state{{run_id="{run.name}",state="{state}"}}'
        ((_, samples),) = selected(stack.prometheus, final)
        assert samples[-1][1] == "1"
    assert runs[0].updates()[-1]["update"] == 1


def two_scrapes_after(run, server):
    """When the second scrape after the end of a run was, or would have been: Prometheus forgets a target within
    some ten seconds, and scrapes in vain until then."""
    ((_, samples),) = selected(server, f'up{{instance="{run.address}"}}')
    return max([run.ended + 2 * SCRAPE_SECONDS, *[when for when, _ in samples if when > run.ended][1:2]])


def test_no_run_survives_its_end(world):
    stack, runs, targets = world
    # Within less than Prometheus' lookback of five minutes: the series were marked stale.
    until(lambda: query(stack.prometheus, '{__name__=~"rl_.*",job="rl-training"}') == [], seconds=120)
    for run in runs:
        for _, samples in selected(stack.prometheus, f'rl_training_updates_total{{run_id="{run.name}"}}'):
            assert max(when for when, _ in samples) <= run.ended
        everything = f'{{run_id="{run.name}",__name__=~"rl_.*"}}'
        assert query(stack.prometheus, f"{everything} @ {two_scrapes_after(run, stack.prometheus)}") == []
        assert query(stack.prometheus, f"{everything} @ {samples[-1][0]}")
    assert [path.name for path in targets.glob("*.run.json")] == [f"{KILLED}@lab.run.json"]


def test_only_the_run_that_was_killed_is_alerted_on_and_prune_removes_it(world, capsys):
    stack, _, targets = world
    firing = 'ALERTS{alertname=~"RLTraining.*",alertstate="firing"}'
    alerts = until(lambda: query(stack.prometheus, firing))
    assert {alert["metric"]["run_id"] for alert in alerts} == {KILLED}
    assert exporter(["targets", "prune", str(targets), "--timeout", "1"]) == 0
    assert capsys.readouterr().out == "", "a heartbeat that is fresh keeps an entry that nobody answers for"
    assert exporter(["targets", "prune", str(targets), "--timeout", "1", "--older-than", "0"]) == 0
    assert f"removed {KILLED} at 127.0.0.1:" in capsys.readouterr().out
    assert list(targets.glob("*.run.json")) == []
    until(lambda: query(stack.prometheus, 'up{job="rl-training"}') == [])
    seen = query(stack.prometheus, f"count by (run_id) (last_over_time({firing}[10m]))")
    assert [row["metric"]["run_id"] for row in seen] == [KILLED]
