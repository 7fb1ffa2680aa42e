"""No body of /metrics ever mixes two updates, however readers and the writer interleave."""

import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer

SCRAPES = 10_000
READERS = 4
HEADS = Heads.of({"op": 6, "slot": 6})
SAMPLE = re.compile(
    rb"^(?:rl_policy_head_(?:entropy_nats|choice_steps_ratio|gradient_norm)|rl_policy_kl_divergence_nats)\{.*\} (.+)$",
    re.MULTILINE,
)


def values_in(body):
    return set(SAMPLE.findall(body))


@pytest.fixture
def often_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.usefixtures("often_switching")
def test_ten_thousand_scrapes_during_updates_show_one_update_each():
    aggregator = SanctumAggregator(HEADS, RunInfo("run"))
    renderer = Renderer(aggregator.snapshot)
    stop = threading.Event()

    def write():
        update = 0
        while not stop.is_set():
            update += 1
            number = update % 1000 / 1000
            same = HeadMeasurement(number, number, number, number, number)
            aggregator.handle_ppo_update(
                PPOUpdatePayload(heads={"op": same, "slot": same}, kl_divergence=number)
            )

    def read(_):
        bodies = [renderer.render("")[0] for _ in range(SCRAPES // READERS)]
        return [values_in(body) for body in bodies]

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with ThreadPoolExecutor(READERS) as pool:
            seen = [values for reader in pool.map(read, range(READERS)) for values in reader]
    finally:
        stop.set()
        writer.join()
    assert len(seen) == SCRAPES
    assert max(len(values) for values in seen) == 1
    assert len(set.union(*seen)) > 100, "the writer hardly ran"


def test_that_proof_would_see_a_mixed_body():
    aggregator = SanctumAggregator(HEADS, RunInfo("run"))
    aggregator.handle_ppo_update(
        PPOUpdatePayload(heads={"op": HeadMeasurement(0.5), "slot": HeadMeasurement(0.6)}, kl_divergence=0.5)
    )
    assert len(values_in(Renderer(aggregator.snapshot).render("")[0])) == 2
