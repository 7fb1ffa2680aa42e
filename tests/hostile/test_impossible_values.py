"""Numbers that cannot be: ``record`` drops them, counts them by field, and names each once."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rl_exporter import PPOUpdatePayload, RunInfo, SanctumAggregator, parse_snapshot
from rl_exporter.collector import Renderer
from tests.hostile.recorded_numbers import COUNTS, PER_HEAD


def scraped(recorder):
    return parse_snapshot(Renderer(recorder.snapshot).render("")[0].decode())


def samples(recorder, name):
    lines = Renderer(recorder.snapshot).render("")[0].decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith(name))


IMPOSSIBLE = {name: -0.5 for name in PER_HEAD if "margin" not in name} | {
    "choice_entropy": 1.5, "choice_share": 50.0, "open_share": 1.5, "entropy": 3.17, "state_information": 9.0
}  # fmt: skip
IMPOSSIBLE_RUN = {"kl_divergence": -0.5, "clipped_share": 12.0, "gradient_norm": -1.0, "explained_variance": 1.5,
                  "update_duration": -1.0, "rollout_duration": -1.0}  # fmt: skip
IMPOSSIBLE_COUNTS = [-1, 0.5, np.float32(0.5), 10**400, -(10**400), np.int64(-3)]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE.items())
def test_an_impossible_value_of_a_head_is_dropped_counted_and_named_once(heads, name, value, caplog):
    for _ in range(3):
        heads.record(**{name: {"grip": value}}, episodes=1)
    assert scraped(heads).dropped == ((name, 3),)
    assert heads.snapshot().record_errors == heads.snapshot().episodes == 3
    assert samples(heads, "rl_exporter_dropped") == {
        f'rl_exporter_dropped_values_total{{field="{name}"}}': "3.0"
    }
    (said,) = caplog.messages
    assert said.startswith(f"head 'grip': {name} {value} is ")
    bound = math.log(3) if name in {"entropy", "state_information"} else 1.0 if value > 0 else 0.0
    assert f" {bound}, the {'largest' if value > 0 else 'least'} possible" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [*IMPOSSIBLE_RUN.items(), *((name, value) for name in COUNTS for value in IMPOSSIBLE_COUNTS)],
)
def test_an_impossible_value_of_the_run_is_dropped_counted_and_named_once(heads, name, value, caplog):
    for _ in range(2):
        heads.record({"arm": 1.0}, **{name: value})
    snapshot = scraped(heads)
    assert snapshot.dropped == ((name, 2),)
    assert (snapshot.record_errors, snapshot.tamiyo.updates) == (2, 2)
    assert snapshot.environment_steps == snapshot.episodes == 0
    (said,) = caplog.messages
    assert said.startswith(f"{name} {str(value)[:40]} is ")


def test_a_count_of_more_digits_than_python_writes_is_dropped_like_others(heads, caplog):
    """``str`` of it raises ValueError."""
    for sign in (1, -1):
        heads.record({"arm": 1.0}, **dict.fromkeys(COUNTS, sign * 10**5000))
    assert dict(heads.snapshot().dropped) == dict.fromkeys(COUNTS, 2)
    assert heads.snapshot().tamiyo.updates == 2
    assert all(" a whole number of 16610 bits is above " in message for message in caplog.messages)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_never_add_up_to_what_cannot_be_exposed(heads, name):
    """A total beyond the largest float fails every later scrape."""
    for _ in range(3):
        heads.record({"arm": 1.0}, **{name: 10**308})
        heads.record({"arm": 1.0}, **{name: 2**53})
    assert getattr(scraped(heads), name) == 3 * 2**53
    assert heads.snapshot().record_errors == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400], ids=str)
def test_a_value_that_is_not_finite_is_counted_by_field_and_is_no_error_of_telemetry(heads, bad, caplog):
    """10**400 is a number, too: as a float it is infinite."""
    heads.record({"arm": bad, "grip": 0.5}, explained_variance=bad, episode_return=bad)
    snapshot = heads.snapshot()
    assert dict(snapshot.dropped) == {"entropy": 1, "explained_variance": 1, "episode_return": 1}
    assert snapshot.record_errors == 0
    arm = snapshot.tamiyo.readings["arm"]
    assert arm.nan_values + arm.inf_values == 1
    assert not arm.measured
    assert snapshot.tamiyo.explained_variance is None
    assert len(caplog.messages) == 3
    assert all("is not finite" in message for message in caplog.messages)


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32("nan")], ids=str)
def test_a_count_that_is_not_finite_counts_nothing(heads, bad):
    heads.record(environment_steps=bad, episodes=2)
    snapshot = heads.snapshot()
    assert (snapshot.environment_steps, snapshot.episodes, dict(snapshot.dropped)) == (
        0,
        2,
        {"environment_steps": 1},
    )


def test_shares_that_are_none_are_named(heads, caplog):
    heads.record({"grip": 0.5}, action_shares={"grip": [0.5, 0.9, 0.5]})
    heads.record({"grip": 0.5}, action_shares={"grip": [0.5, 0.5]})
    assert scraped(heads).dropped == (("action_shares", 2),)
    assert caplog.messages == [
        "head 'grip': action_shares are 3 numbers, 0.5, 0.9, 0.5, of sum 1.9; give the mean probability of each of the "
        "3 actions; it is dropped, and so are later ones, silently"
    ]


def test_each_head_and_field_is_logged_once(heads, caplog):
    for _ in range(5):
        heads.record({"arm": 9.0, "grip": 9.0}, choice_entropy={"arm": 9.0})
    assert len(caplog.messages) == 3
    heads.record({"arm": math.nan})
    assert len(caplog.messages) == 4, "another fault than a value out of bounds"


def test_counts_of_dropped_values_go_on_in_a_resumed_run(heads):
    heads.record({"arm": 9.0}, clipped_share=12.0)
    declared = heads.snapshot().tamiyo.heads
    resumed = SanctumAggregator(declared, RunInfo("values"), resumed=scraped(heads))
    resumed.handle_ppo_update(PPOUpdatePayload(clipped_share=12.0))
    assert dict(resumed.snapshot().dropped) == {"entropy": 1, "clipped_share": 2}


def test_a_log_that_fails_does_not_stop_the_loop(heads):
    """A handler of the program's own may raise; those of the standard library print their errors."""

    class Failing(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the log server is gone")

    handler = Failing()
    logging.getLogger("rl_exporter").addHandler(handler)
    try:
        heads.record({"arm": 99.0, "grip": 0.5}, clipped_share=7.0)
    finally:
        logging.getLogger("rl_exporter").removeHandler(handler)
    assert dict(heads.snapshot().dropped) == {"entropy": 1, "clipped_share": 1}
    assert heads.snapshot().tamiyo.updates == 1


def test_the_log_is_written_outside_the_lock(heads, monkeypatch):
    """A log that blocks, on a terminal that stands still, must not keep scrapes waiting."""
    lock, free = heads._aggregator._lock, []

    def scrape():
        if acquired := lock.acquire(timeout=5):
            lock.release()
        return acquired

    def log(*_, **__):
        with ThreadPoolExecutor(1) as scraper:
            free.append(scraper.submit(scrape).result())

    monkeypatch.setattr(logging.getLogger("rl_exporter"), "log", log)
    heads.record({"arm": 9.0})
    assert free == [True]
