"""How a loop may give gradients to a meter: head by head, a parameter alone, several for one minibatch."""

import numpy as np
import pytest
import torch
from torch import nn

import rl_exporter.integrations.numpy as of_numpy
import rl_exporter.integrations.torch as of_torch

SIZES = {"a": 2, "b": 3}
LOGITS = np.zeros((4, 5))
FIRST, SECOND, LAST = (
    {"a": np.full((2, 3), factor), "b": np.full((3, 3), 2.0 * factor)} for factor in (1.0, 3.0, 100.0)
)


def norm(*gradients):
    return float(np.mean([np.linalg.norm(one) for one in gradients]))


def parameter_with(gradient):
    parameter = nn.Parameter(torch.zeros(gradient.shape))
    parameter.grad = torch.from_numpy(gradient).float()
    return parameter


METERS = pytest.mark.parametrize(
    ("meter_of", "logits", "given"),
    [
        (of_numpy.HeadMeter, LOGITS, lambda gradient: gradient),
        (of_torch.HeadMeter, torch.from_numpy(LOGITS), parameter_with),
    ],
    ids=["numpy", "torch"],
)


@METERS
@pytest.mark.parametrize("calls", [("ab",), ("a", "b"), ("b", "a")])
def test_a_call_may_be_of_all_heads_or_of_one(meter_of, logits, given, calls):
    meter = meter_of(SIZES, epoch_steps=8)
    for gradients in (FIRST, SECOND, LAST):  # the last one belongs to an epoch that is cut short
        meter.add(logits)
        for heads in calls:
            meter.gradients({head: given(gradients[head]) for head in heads})
    found = meter.result()["head_gradient_norm"]
    assert found == pytest.approx({head: norm(FIRST[head], SECOND[head]) for head in SIZES})


@METERS
def test_a_minibatch_may_have_several_steps_of_the_optimizer(meter_of, logits, given):
    meter = meter_of(SIZES)
    meter.add(logits)
    for gradients in (FIRST, SECOND):
        meter.gradients({head: given(gradients[head]) for head in SIZES})
    meter.end_epoch()
    assert meter.result()["head_gradient_norm"] == pytest.approx(
        {head: norm(FIRST[head], SECOND[head]) for head in SIZES}
    )


@METERS
def test_a_weight_alone_is_the_layer(meter_of, logits, given):
    meter = meter_of(SIZES)
    meter.add(logits)
    meter.gradients(given(np.concatenate([FIRST["a"], FIRST["b"]])))
    assert meter.result()["head_gradient_norm"] == pytest.approx({head: norm(FIRST[head]) for head in SIZES})
