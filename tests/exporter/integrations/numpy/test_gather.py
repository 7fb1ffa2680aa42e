"""Several processes that train one policy: their meters add up to what one meter of all steps would say."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rl_exporter
from rl_exporter.integrations.numpy import HeadMeter
from tests.support.metered_loops import Loop, assert_same

PROCESSES = 3


class Gatherer:
    """Threads in place of processes: each gives its bytes and gets those of all."""

    def __init__(self):
        self._barrier, self._slots = threading.Barrier(PROCESSES, timeout=30), [None] * PROCESSES

    def of(self, process):
        def gather(row):
            assert row.dtype == np.uint8
            assert row.ndim == 1
            self._slots[process] = row.copy()
            self._barrier.wait()
            found = list(self._slots)
            self._barrier.wait()
            return found

        return gather


def at_once(call):
    with ThreadPoolExecutor(PROCESSES) as pool:
        return list(pool.map(call, range(PROCESSES)))


def epochs_of(loop):
    return [minibatches for minibatches, _ in loop.epochs_of_minibatches()]


@pytest.mark.parametrize("sizes", [(4, 3, 1), (70, 2), (1500,)])
def test_processes_add_up_to_what_one_meter_sees(sizes):
    loops = [
        Loop(sizes, seed=seed, minibatches=1, bad=sizes[0] < 10, sharpness=2.0) for seed in range(PROCESSES)
    ]
    heads, gatherer, alone = loops[0].heads, Gatherer(), HeadMeter(loops[0].heads)

    def one(process):
        meter = HeadMeter(heads)
        for (arguments,) in epochs_of(loops[process]):
            meter.add(**arguments)
            meter.gradients(np.ones((sum(sizes), 2)))
            meter.end_epoch()
        return meter.result(gather=gatherer.of(process))

    results = at_once(one)
    for parts in zip(*map(epochs_of, loops), strict=True):
        together = {name: np.concatenate([part[name] for (part,) in parts]) for name in parts[0][0]}
        alone.add(**together)
        alone.gradients(np.ones((sum(sizes), 2)))
        alone.end_epoch()
    expected = alone.result()
    for found in results:
        assert found == results[0]
        assert_same(found, expected, 1e-9)


def test_a_process_that_fails_takes_the_update_from_all_and_blocks_none(caplog):
    gatherer, rows = Gatherer(), np.random.default_rng(0).standard_normal((20, 7))

    def one(process):
        with rl_exporter.serve({"a": 4, "b": 3}, listen="127.0.0.1:0", linger=0) as recorder:
            meter, gather, found = HeadMeter(recorder), gatherer.of(process), []
            for update in range(3):
                meter.add(rows)
                if (process, update) == (1, 1):
                    meter.add("no logits")
                found.append(meter.result(gather=gather))
            return found, recorder.snapshot().record_errors

    for found, errors in at_once(one):
        assert found[0] == found[2]
        assert found[0]["entropy"].keys() == {"a", "b"}
        assert (found[1], errors) == ({}, 1)
    assert "1 other ranks could not measure this update" in caplog.text


@pytest.mark.parametrize(
    ("epochs", "counted"), [((2, 2, 3), 2), ((0, 1, 3), 1), ((0, 0, 2), 2), ((0, 0, 0), 0), ((-1, 2, 2), 0)]
)
def test_the_epochs_that_all_have_finished_count(epochs, counted):
    """0: a process without steps. -1: its first epoch is cut short."""
    gatherer = Gatherer()
    rows = np.random.default_rng(0).standard_normal((PROCESSES, 3, 20, 7))

    def one(process):
        meter = HeadMeter({"a": 4, "b": 3}, epoch_steps=20)
        for epoch in range(epochs[process]):
            meter.add(rows[process, epoch])
        if epochs[process] < 0:
            meter.add(rows[process, 0, :5])
        return meter.result(gather=gatherer.of(process))

    alone = HeadMeter({"a": 4, "b": 3})
    for epoch in range(counted):
        alone.add(np.concatenate([rows[p, epoch] for p in range(PROCESSES) if epochs[p] > 0]))
        alone.end_epoch()
    expected = alone.result()
    for found in at_once(one):
        assert found.get("entropy", {}) == pytest.approx(expected.get("entropy", {}))
        assert ("entropy" in found) == (counted > 0)


def test_a_gather_that_raises_costs_the_numbers_alone(caplog):
    meter = HeadMeter({"a": 4, "b": 3})
    meter.add(np.zeros((2, 7)))

    def lost(_row):
        raise ConnectionError("a process is gone")

    assert meter.result(gather=lost) == {}
    assert "a process is gone" in caplog.text
    meter.add(np.zeros((2, 7)))
    assert "entropy" in meter.result()
