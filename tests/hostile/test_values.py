"""Whatever a loop hands to ``record``: an update is taken whole or not at all, and a number never raises."""

import atexit
import logging
import math
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
import torch

import rl_exporter
from rl_exporter import (
    Head,
    HeadMeasurement,
    HeadRecorder,
    Heads,
    MetricsServer,
    PPOUpdatePayload,
    RunInfo,
    SanctumAggregator,
    parse_snapshot,
)
from rl_exporter.collector import Renderer
from rl_exporter.numbers import HeadNumbers, attributes

PER_HEAD = [number.row.argument or number.name for number in attributes(HeadNumbers)]
RUN = [number.name for number in attributes(PPOUpdatePayload) if not number.whole]
COUNTS = [number.name for number in attributes(PPOUpdatePayload) if number.whole]


@pytest.fixture
def heads():
    """A recorder whose server never starts: these tests read the snapshot, and are many."""
    aggregator = SanctumAggregator(Heads.of({"arm": 9, "grip": 3}), RunInfo("values"))
    recorder = HeadRecorder(aggregator, MetricsServer(aggregator.snapshot), linger=0)
    yield recorder
    atexit.unregister(recorder._end_with_interpreter)


def scraped(recorder):
    return parse_snapshot(Renderer(recorder.snapshot).render("")[0].decode())


def samples(recorder, name):
    lines = Renderer(recorder.snapshot).render("")[0].decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if line.startswith(name))


QUARTER = [
    0.25,
    np.float64(0.25),
    np.float32(0.25),
    np.float16(0.25),
    np.array(0.25),
    np.array([0.25]),
    np.array([[0.25]], dtype=np.float32),
    torch.tensor(0.25),
    torch.tensor([0.25]),
    torch.tensor([[0.25]], dtype=torch.bfloat16),
    torch.tensor(0.25, requires_grad=True),
    Decimal("0.25"),
    Fraction(1, 4),
]


@pytest.mark.parametrize("value", QUARTER, ids=lambda value: f"{type(value).__name__} {np.shape(value)}")
def test_a_number_of_any_library_is_taken(heads, value):
    per_head = {"arm": value, "grip": 0.5}
    heads.record(**dict.fromkeys(PER_HEAD, per_head), **dict.fromkeys(RUN, value))
    arm = heads.snapshot().tamiyo.readings["arm"]
    for number in attributes(HeadNumbers):
        assert getattr(arm, number.name) == 0.25
        assert type(getattr(arm, number.name)) is float
    assert heads.snapshot().tamiyo.explained_variance == 0.25
    assert heads.snapshot().record_errors == 0


@pytest.mark.parametrize(
    "value", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3), True + True + True, 3.0, np.float32(3.0)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_count_of_any_library_is_taken(heads, value):
    heads.record(**dict.fromkeys(COUNTS, value))
    heads.record(**dict.fromkeys(COUNTS, value))
    snapshot = heads.snapshot()
    for name in COUNTS:
        assert getattr(snapshot, name) == 6
        assert type(getattr(snapshot, name)) is int
    assert snapshot.record_errors == 0


def test_none_is_not_measured_everywhere():
    with rl_exporter.serve({"arm": 9, "grip": 3}, listen="127.0.0.1:0", linger=0) as heads:
        full = {"arm": 0.5, "grip": 0.5}
        heads.record(**dict.fromkeys(PER_HEAD, full))
        heads.record(**{name: {"arm": 0.5, "grip": None} for name in PER_HEAD})
        heads.record(**dict.fromkeys([*PER_HEAD, *RUN, *COUNTS, "action_shares"], None))
        heads.record(action_shares={"arm": None})
        snapshot = heads.snapshot()
    assert snapshot.tamiyo.updates == 4
    assert snapshot.tamiyo.unmeasured_updates("grip") == 3
    assert snapshot.tamiyo.unmeasured_updates("arm") == 2
    assert snapshot.environment_steps == snapshot.record_errors == 0


def test_shares_may_be_an_array_or_a_tensor(heads):
    for shares in ([0.5, 0.25, 0.25], np.array([0.5, 0.25, 0.25]), torch.tensor([0.5, 0.25, 0.25]),
                   (np.float32(0.5), torch.tensor(0.25), 0.25)):  # fmt: skip
        heads.record(entropy={"grip": 0.5}, action_shares={"grip": shares})
        assert heads.snapshot().tamiyo.readings["grip"].action_shares == (0.5, 0.25, 0.25)


TEXTS = ["0.25", b"0.25", bytearray(b"1"), np.str_("0.25"), np.array("0.25"), np.array(["0.25"])]
NO_NUMBERS = [
    *TEXTS,
    "",
    [0.25],
    [],
    {},
    object(),
    1j,
    np.array([0.25, 0.25]),
    np.array([]),
    np.array([["0.25", "0.25"]]),
    torch.zeros(2),
    torch.zeros(0),
    torch.zeros((), device="meta"),
    np.datetime64("2026-01-01"),
]


def untouched(recorder, call):
    before = recorder.snapshot()
    with pytest.raises(TypeError) as raised:
        call()
    recorder.count_record_error()  # so that the snapshot is made anew
    assert recorder.snapshot() == replace(before, record_errors=before.record_errors + 1)
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: f"{type(value).__name__} {str(value)[:9]}")
def test_what_is_no_number_is_refused_before_anything_is_counted(heads, value):
    heads.record(entropy={"arm": 1.0, "grip": 0.5}, environment_steps=7)
    for name in PER_HEAD:
        call = {key: {"arm": 0.5, "grip": value if key == name else 0.5} for key in PER_HEAD}
        said = untouched(heads, lambda call=call: heads.record(**call, environment_steps=3))
        assert said.startswith(f"{name} of head 'grip' is ")
        assert "give a number" in said
    for name in (*RUN, *COUNTS):
        said = untouched(heads, lambda name=name: heads.record({"arm": 0.5}, **{name: value}))
        assert said.startswith(f"{name} is ")
    sequence = isinstance(value, list | np.ndarray | torch.Tensor) and np.ndim(value) == 1 and len(value) > 0
    for shares in ([value, 0.5, 0.5], *(() if sequence else (value,))):
        said = untouched(
            heads, lambda shares=shares: heads.record({"arm": 0.5}, action_shares={"grip": shares})
        )
        assert said.startswith("action_shares of head 'grip' are ")
    if not isinstance(value, dict):
        assert "for each head by name" in untouched(heads, lambda: heads.record(value))


@pytest.mark.parametrize("value", [np.array([3]), np.array([3.0]), [3]], ids=str)
def test_an_array_is_no_count(heads, value):
    for name in COUNTS:
        assert "give a whole number" in untouched(heads, lambda name=name: heads.record(**{name: value}))


@pytest.mark.parametrize("value", ["0.5", [0.5, 0.6], np.array([0.5, 0.6])], ids=str)
def test_the_seam_takes_an_update_whole_or_not_at_all(value):
    """A payload that somebody else built wrongly: its last number raises after the others were looked at."""
    declared, fine = Heads.of({"arm": 9, "grip": 3}), HeadMeasurement(0.5, 0.5)
    disturbed, alone = (SanctumAggregator(declared, RunInfo("seam"), clock=lambda: 1000.0) for _ in range(2))
    wrong = (
        PPOUpdatePayload(heads={"arm": fine, "grip": HeadMeasurement(0.5, value)}, episodes=1),
        PPOUpdatePayload(heads={"arm": fine}, episodes=1, rollout_duration=value),
        PPOUpdatePayload(heads={"arm": fine}, episodes=1, environment_steps=value),
    )
    for payload in wrong:
        with pytest.raises((TypeError, ValueError)):
            disturbed.handle_ppo_update(payload)
        for aggregator in (disturbed, alone):
            aggregator.handle_ppo_update(PPOUpdatePayload(heads={"arm": fine}, episodes=2))
        assert disturbed.snapshot() == alone.snapshot()


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


def test_a_policy_is_declared_with_the_numbers_of_its_space():
    space = gymnasium.spaces.MultiDiscrete([4, 9])
    with rl_exporter.serve(
        dict(zip(["grip", "arm"], space.nvec, strict=True)), listen="127.0.0.1:0", linger=0
    ) as heads:
        heads.record({"grip": 1.0, "arm": 2.0})
        declared = heads.snapshot().tamiyo.heads
    assert declared == Heads.of({"grip": 4, "arm": 9})
    assert [type(head.choices) for head in declared] == [int, int]
    assert Head("arm", gymnasium.spaces.Discrete(5).n).choices == 5
    assert Head("arm", torch.tensor(5)).choices == 5
    arm = Head("arm", 5, np.float32(0.5), np.float32(0.5), np.float64(0.25), reference=np.float32(1.5))
    assert [type(value) for value in (arm.entropy_multiplier, arm.reference, *arm.thresholds)] == [float] * 4


@pytest.mark.parametrize(
    "choices",
    [0, -1, 2.0, "3", True, np.True_, None, np.array([3, 4]), np.array([3]), np.float64(3), math.nan],
    ids=repr,
)
def test_what_is_no_number_of_choices_is_refused_in_one_line(choices):
    with pytest.raises(ValueError, match="give a whole number >= 1"):
        Head("arm", choices)


@pytest.mark.parametrize(
    "options",
    [
        {"entropy_multiplier": "2"},
        {"entropy_multiplier": True},
        {"entropy_multiplier": math.nan},
        {"reference": "best"},
        {"reference": -1.0},
        {"reference": np.array([1.0, 2.0])},
        {"warning": "0.5"},
        {"critical": math.nan},
    ],
    ids=str,
)
def test_what_is_impossible_in_a_declaration_is_a_value_error(options):
    with pytest.raises(ValueError, match=r"head 'arm' has .*give "):
        Head("arm", 4, **options)


def test_numbers_of_other_libraries_need_none_of_them():
    program = """
import sys
import rl_exporter
with rl_exporter.serve({"arm": 4}, listen="127.0.0.1:0", linger=0) as heads:
    heads.record({"arm": 0.5}, action_shares={"arm": [0.25] * 4}, environment_steps=3, clipped_share=50)
print(sorted({"numpy", "torch"} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
    assert (
        done.stderr
        == "clipped_share 50.0 is above 1.0, the largest possible; it is dropped, and so are later ones, silently\n"
    )


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
    aggregator = heads._aggregator
    held = []
    monkeypatch.setattr(
        logging.getLogger("rl_exporter"), "warning", lambda *_: held.append(aggregator._lock.locked())
    )
    heads.record({"arm": 9.0})
    assert held == [False]
