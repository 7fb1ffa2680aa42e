"""What the meter for NumPy does beside its numbers; test_numpy_twin.py compares those with the meter for PyTorch."""

import logging
import tracemalloc

import numpy as np
import pytest

import rl_exporter
from rl_exporter.integrations.numpy import HeadMeter, Operations

HEADS = {"a": 4, "b": 3}
ROWS = np.random.default_rng(0).standard_normal((20, 7))


@pytest.fixture
def recorder():
    with rl_exporter.serve(HEADS, listen="127.0.0.1:0", linger=0) as heads:
        yield heads


def errors(recorder):
    return recorder.snapshot().record_errors


def test_its_numbers_are_arguments_of_record(recorder):
    meter = HeadMeter(recorder)
    for _ in range(2):
        meter.add(ROWS, actions=np.zeros((20, 2), int), advantages=np.arange(20.0))
        recorder.record(**meter.result(), environment_steps=20)
    assert recorder.snapshot().tamiyo.readings["b"].entropy == meter_of(ROWS)["entropy"]["b"]
    assert errors(recorder) == 0


def meter_of(rows, **arguments):
    meter = HeadMeter(HEADS)
    meter.add(rows, **arguments)
    return meter.result()


WRONG_LATER = {
    "another number of choices": lambda meter: meter.add(ROWS[:, :6]),
    "a text": lambda meter: meter.add("logits"),
    "nothing": lambda meter: meter.add(None),
    "an action that the head does not have": lambda meter: meter.add(  # it would be one of the next head
        ROWS, actions=np.tile([5, 0], (20, 1)), advantages=np.zeros(20)
    ),
    "gradients of a head that does not exist": lambda meter: meter.gradients({"a": ROWS, "x": ROWS}),
    "gradients of a layer of another size": lambda meter: meter.gradients(np.zeros((6, 2))),
    "gradients that are none": lambda meter: meter.gradients({"a": [object()]}),
    "minibatches that make no whole epochs": lambda meter: (
        setattr(meter, "epoch_steps", 30),
        meter.add(ROWS),
        meter.add(ROWS),
        setattr(meter, "epoch_steps", None),
    ),
}


@pytest.mark.parametrize("wrong", WRONG_LATER)
def test_later_errors_cost_one_update_and_are_counted_once(recorder, caplog, wrong):
    meter = HeadMeter(recorder)
    meter.add(ROWS)
    expected = meter.result()
    for _ in range(2):
        meter.add(ROWS)
        WRONG_LATER[wrong](meter)
        WRONG_LATER[wrong](meter)
        meter.end_epoch()
        assert meter.result() == {}
    assert errors(recorder) == 2
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1
    meter.add(ROWS)
    assert meter.result() == expected


def test_an_update_without_minibatches_measures_nothing():
    meter = HeadMeter(HEADS)
    meter.end_epoch()
    assert meter.result() == {}


def test_a_collapse_that_underflows_is_no_mask():
    """exp(-5000) is 0 in every precision; only 10,000 and more say that an action was not valid."""
    collapsed, masked = np.zeros((20, 7)), np.zeros((20, 7))
    collapsed[:, 1:4], masked[:, 1:4] = -5000.0, -20000.0
    assert "choice_share" not in meter_of(collapsed)
    assert meter_of(collapsed)["state_information"]["a"] == pytest.approx(0.0, abs=1e-12)
    assert meter_of(masked)["choice_share"] == {"a": 0.0, "b": 1.0}


def test_padding_may_hold_anything():
    """Masks without any action, actions that the head does not have, NaN: such rows count nowhere."""
    valid = np.arange(20) < 12
    masks = np.ones((20, 7), bool) & valid[:, None]
    arguments = {"actions": np.arange(20)[:, None] % [4, 3], "advantages": np.arange(20.0)}
    expected = meter_of(ROWS[:12], masks=masks[:12], **{name: part[:12] for name, part in arguments.items()})
    rows = np.where(valid[:, None], ROWS, np.nan)
    arguments["actions"] = np.where(valid[:, None], arguments["actions"], -100)
    found = meter_of(rows, masks=masks, valid=valid, **arguments)
    assert found.keys() == expected.keys()
    assert found["entropy"] == pytest.approx(expected["entropy"])
    assert found["advantage_margin"] == pytest.approx(expected["advantage_margin"])


def test_padding_needs_no_operation():
    valid, actions = np.arange(20) < 12, np.zeros((20, 2), int)
    actions[:3, 0], actions[~valid] = 1, -1
    meter = HeadMeter(HEADS, operations=Operations("a", (("b",), (), (), ())))
    meter.add(ROWS, valid=valid, actions=actions)
    assert meter.result()["choice_share"] == {"a": 1.0, "b": 0.75}
    with pytest.raises(ValueError, match="actions of head 'a' hold -1, but the head has 4 choices"):
        HeadMeter(HEADS, operations=Operations("a")).add(ROWS, actions=actions)


def test_arrays_that_the_loop_writes_over_are_read_at_once():
    meter, rows = HeadMeter(HEADS), ROWS.copy()
    for _ in range(2):
        meter.add(rows)
        rows[:] = 0.0
        found = meter.result()
        rows[:] = ROWS
        assert found == meter_of(ROWS)


@pytest.mark.parametrize(("axis", "shape"), [(0, (7, 5)), (-1, (5, 7))])
def test_gradients_of_a_layer_have_the_logits_along_an_axis(axis, shape):
    kernel, bias = np.random.default_rng(1).standard_normal(shape), np.arange(7.0)
    meter = HeadMeter(HEADS)
    meter.add(ROWS)
    meter.gradients({"kernel": kernel, "bias": bias}, axis=axis)
    columns = np.concatenate([np.moveaxis(kernel, axis, 0), bias[:, None]], 1)
    expected = {"a": np.linalg.norm(columns[:4]), "b": np.linalg.norm(columns[4:])}
    assert meter.result()["head_gradient_norm"] == pytest.approx(expected)


def test_a_layer_that_does_not_fit_says_which_axis_to_give(caplog):
    meter = HeadMeter(HEADS)
    meter.add(ROWS)
    meter.gradients([np.zeros((5, 7))])
    assert meter.result() == {}
    assert "gradient of shape (5, 7), but the heads have 7 choices together" in caplog.text
    assert "axis=-1 for kernels of Flax and Haiku" in caplog.text


def test_steps_without_gradients_count_as_none():
    meter = HeadMeter(HEADS)
    for gradients in ({"a": [None, np.array([3.0, 4.0])]}, {"a": {"w": None}}, None):
        meter.add(ROWS)
        meter.gradients(gradients)
    assert meter.result()["head_gradient_norm"] == {"a": 5.0}


def test_a_lenient_meter_raises_nothing_and_counts_where_it_is_told():
    counted = []
    meter = HeadMeter(HEADS, lenient=True, count_error=lambda: counted.append(1))
    meter.add("no logits")
    assert (meter.result(), counted) == ({}, [1])
    meter.add(ROWS)
    assert meter.result() == meter_of(ROWS)


def test_wide_heads_are_added_up_at_once():
    """The tokens of a batch times the vocabulary of a language model would not fit."""
    rows, meter = np.random.default_rng(0).standard_normal((50, 3000)), HeadMeter({"token": 3000})
    kept = []
    tracemalloc.start()
    try:
        for _ in range(8):
            meter.add(rows)
            kept.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert kept[-1] - kept[1] < rows.nbytes / 2
    assert meter.result()["entropy"]["token"] > 0
