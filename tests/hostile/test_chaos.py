"""A run under attack, beside an unmolested twin, for some minutes: real trainer, Prometheus, Alertmanager, pager.

Everything happens to the victim that docs/security.md speaks of. Afterwards nothing is missing between its log and
its metrics, nobody was paged about a run, and an update has cost what it cost the twin.
"""

import contextlib
import http.client
import math
import signal
import statistics
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from stack.processes import Binaries, Stack
from tests.support.attacks import ATTACKS, under
from tests.support.servers import query
from tests.support.traced_trainer import Trainer, differences
from tests.support.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]

CALM_UPDATES = 150
"""Updates of each run before the attack, by which the two are compared with themselves."""

PHASE_SECONDS = 8.0
WINDOW_SECONDS = 4.0

DEAREST = 1.05
"""CPU of an update under attack over the same before it, each relative to the twin's at the same time. Of the thread
that trains: what attackers ask for costs the server's own thread."""

SURE = 3.0
"""Standard errors. On a busy machine an update costs now more, now less, so only a clear excess counts."""


@pytest.fixture
def small_disks(tmp_path):
    """Two file systems of their own for targets and checkpoints, small enough to be filled."""
    disks = SimpleNamespace(targets=tmp_path / "stack/prometheus/targets", checkpoints=tmp_path / "checkpoints")
    with contextlib.ExitStack() as mounted:
        for folder, size in ((disks.targets, "64k"), (disks.checkpoints, "8m")):
            folder.mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                pytest.skip("this user may not mount a tmpfs")
            mounted.callback(subprocess.run, ["umount", "--lazy", folder], check=True)
        yield disks


@contextlib.contextmanager
def full(folder):
    """Fill a file system to its last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    filler.unlink()


class Sampler:
    """Scrapes the victim all the time, as one more Prometheus would, and keeps what it sees and what it misses."""

    def __init__(self, trainer):
        self.seen, self.missed = [], []
        self._trainer, self._stop = trainer, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.5):
            try:
                self.seen.append(self._trainer.scrape(seconds=30))
            except (OSError, http.client.HTTPException) as error:
                self.missed.append(repr(error))


@pytest.fixture
def world(prometheus, alertmanager, small_disks, tmp_path):
    binaries = Binaries(prometheus=prometheus, alertmanager=alertmanager)
    with Stack(tmp_path / "stack", binaries) as stack:
        stack.start_pages()
        servers = {
            "alertmanager": stack.start_alertmanager().popen,
            "prometheus": stack.start_prometheus().popen,
        }
        (tmp_path / "checkpoints-of-twin").mkdir()
        victim = Trainer(stack, "victim", small_disks.targets, small_disks.checkpoints, tmp_path)
        twin = Trainer(stack, "twin", small_disks.targets, tmp_path / "checkpoints-of-twin", tmp_path)
        yield SimpleNamespace(stack=stack, servers=servers, victim=victim, twin=twin, disks=small_disks)


def killed_and_started_again(world, name):
    world.servers[name].kill()
    world.servers[name].wait()
    time.sleep(2)
    world.servers[name] = getattr(world.stack, f"start_{name}")().popen


def stopped_for_a_while(process, seconds=5):
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def attack(world):
    """Everything, one after the other, and then all clients at once."""
    address = world.victim.address
    for kind in ATTACKS:
        with under(address, kind):
            time.sleep(PHASE_SECONDS)
    with under(address, *ATTACKS), full(world.disks.targets), full(world.disks.checkpoints):
        time.sleep(PHASE_SECONDS)
        refused = world.stack.log_path("victim")
        until(lambda: "not written: No space left on device" in refused.read_text(), every=0.5)
    stopped_for_a_while(world.victim.process)
    stopped_for_a_while(world.servers["prometheus"])
    killed_and_started_again(world, "alertmanager")
    killed_and_started_again(world, "prometheus")
    until(lambda: query(world.stack.prometheus, 'up{job="rl-training"} == 1'))


def windows(world, part, begin, end):
    """How much dearer an update of the victim is than one of the twin, as logarithms, a window each."""
    found = []
    while begin + WINDOW_SECONDS <= end:
        prices = [run.price(part, begin, begin + WINDOW_SECONDS) for run in (world.victim, world.twin)]
        if all(prices):
            found.append(math.log(prices[0] / prices[1]))
        begin += WINDOW_SECONDS
    return found


def excess(world, part, started, calm, attacked):
    """The logarithm of what the attack made an update dearer by, and its standard error."""
    before, during = windows(world, part, started, calm), windows(world, part, calm, attacked)
    error = math.sqrt(sum(statistics.variance(some) / len(some) for some in (before, during)))
    return statistics.mean(during) - statistics.mean(before), error


def test_nothing_is_lost_nobody_is_paged_and_an_update_costs_what_it_costs_a_twin(world):
    victim, twin, server = world.victim, world.twin, world.stack.prometheus
    until(lambda: len(query(server, 'up{job="rl-training"} == 1')) == 2)
    started, enough = time.monotonic(), max(run.updates() for run in (victim, twin)) + CALM_UPDATES
    until(lambda: min(run.updates() for run in (victim, twin)) >= enough, seconds=1200, every=0.5)
    calm = time.monotonic()
    with Sampler(victim) as sampler:
        attack(world)
        attacked = time.monotonic()

    for run in (victim, twin):
        assert run.process.poll() is None, "it trains on"
        run.process.send_signal(signal.SIGTERM)
    until(lambda: victim.scrape()[("rl_training_run_state", "interrupted")] == 1)
    final = victim.scrape()
    for run in (victim, twin):
        run.process.wait(timeout=120)

    lines = victim.lines()
    assert [line["update"] for line in lines] == list(range(1, len(lines) + 1))
    assert final[("rl_training_updates_total",)] == len(lines)
    assert differences(final, lines[-1]) == {}
    assert final[("rl_exporter_record_errors_total",)] == 0

    assert sampler.missed == []
    assert len(sampler.seen) > 20
    by_update = {line["update"]: line for line in lines}
    for scraped in sampler.seen:
        assert differences(scraped, by_update[scraped[("rl_training_updates_total",)]]) == {}

    stored = 'max_over_time(rl_training_updates_total{run_id="victim"}[30m])'
    until(lambda: float(query(server, stored)[0]["value"][1]) == len(lines), seconds=30)
    assert query(server, 'count_over_time(ALERTS{alertstate="firing",run_id!=""}[30m])') == []
    pages = world.stack.log_path("pages").read_text()
    assert "The path from Prometheus to the pager works" in pages, "so silence means something"
    assert [line for line in pages.splitlines() if "victim" in line or "twin" in line] == []

    for part in ("training", "everything"):
        dearer, error = excess(world, part, started, calm, attacked)
        print(f"{part}: an update under attack costs {math.exp(dearer):.3f} of one before, +- {error:.3f}")
        if part == "training":
            assert dearer - SURE * error <= math.log(DEAREST)
