"""Whatever a loop hands to ``record``: an update is taken whole or not at all, and a number never raises."""

import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import rl_exporter
from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.numbers import HeadNumbers, attributes
from tests.hostile.recorded_numbers import COUNTS, PER_HEAD, RUN

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


@pytest.mark.parametrize("value", [np.array([3, 4]), torch.tensor([3, 4]), [3]], ids=str)
def test_several_numbers_are_no_count(heads, value):
    for name in COUNTS:
        assert "give a whole number" in untouched(heads, lambda name=name: heads.record(**{name: value}))


@pytest.mark.parametrize("value", [np.array([3]), np.array(3.0), torch.tensor([3]), torch.tensor(3)], ids=repr)
def test_an_array_of_one_element_is_a_count_as_it_is_any_number(heads, value):
    heads.record(environment_steps=value, episodes=value)
    assert heads.snapshot().environment_steps == heads.snapshot().episodes == 3


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
