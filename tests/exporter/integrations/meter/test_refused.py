"""What a meter refuses in the first minibatch, and what an error costs later: never the training."""

import logging
import re

import pytest
import torch
from torch import nn

from rl_exporter.integrations.torch import HeadMeter, Operations
from tests.exporter.integrations.meter.test_head_meter import SIZES, logits_and_masks, measured

TOTAL = sum(SIZES.values())
LOGITS, MASKS = logits_and_masks()
BAD = {
    "shape": ((LOGITS[:, :-1],), ValueError, r"logits have shape \(200, 8\), but the heads have 9 choices together"),
    "head": (([LOGITS[:, :3], LOGITS[:, :4], LOGITS[:, :1]],), ValueError, r"head 'leg' have shape \(200, 4\).*5"),
    "heads": (([LOGITS[:, :3]],), ValueError, "logits are of 1 heads; the meter was declared with arm, leg, fixed"),
    "names": (({"arm": LOGITS[:, :3]},), ValueError, "logits are of heads arm; the meter was declared with"),
    "integers": ((torch.zeros(4, TOTAL, dtype=torch.int64),), TypeError, "logits are int64; give floating-point"),
    "no tensor": (("logits",), TypeError, "logits are str; give tensors"),
    "masks of other steps": ((LOGITS, MASKS[:7]), ValueError, "masks are of 7 steps, logits of 200"),
    "masks of numbers": ((LOGITS, LOGITS), TypeError, "masks are float32; give booleans"),
    "masks of nothing": ((LOGITS, MASKS & False), ValueError, "the mask of head 'arm' allows no action in row"),
    "devices": ((LOGITS.to("meta"), MASKS), NotImplementedError, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", [name for name in BAD if name != "devices"])
def test_bad_input_is_one_line_from_the_first_add(case):
    arguments, error, reason = BAD[case]
    with pytest.raises(error) as caught:
        HeadMeter(SIZES).add(*arguments)
    assert re.search(reason, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("valid", torch.ones(3), r"valid has shape \(3,\), but the logits are of 200 steps"),
        ("actions", torch.ones(200, 2), "but the logits are of 200 steps and 3 heads"),
        ("consulted", torch.ones(200), "but the logits are of 200 steps and 3 heads"),
    ],
)
def test_values_of_steps_must_fit(name, value, reason):
    with pytest.raises(ValueError, match=reason):
        HeadMeter(SIZES).add(LOGITS, MASKS, **{name: value})


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        (Operations("operation"), "no head 'operation' selects operations"),
        (Operations("arm", (("leg",),)), "1 operations; list, for each of the 3 actions"),
        (Operations("arm", ((), (), ("wing",))), r"unknown heads \['wing'\]"),
    ],
)
def test_operations_must_fit(operations, reason):
    with pytest.raises(ValueError, match=reason):
        HeadMeter(SIZES, operations=operations)


@pytest.mark.parametrize("case", [name for name in BAD if name not in {"devices", "masks of nothing"}])
def test_later_nothing_raises(case, caplog):
    errors = []
    meter = HeadMeter(SIZES, count_error=lambda: errors.append(1))
    meter.add(LOGITS, MASKS)
    meter.add(*BAD[case][0])
    meter.add(LOGITS, MASKS)
    meter.gradients(nn.Linear(2, 2))
    assert meter.result() == {}
    assert errors == [1]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    meter.add(LOGITS, MASKS)
    assert meter.result() == measured(LOGITS, MASKS)


def test_a_lenient_meter_never_raises():
    meter = HeadMeter(SIZES, lenient=True)
    meter.add("nothing")
    assert meter.result() == {}
