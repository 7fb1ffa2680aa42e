"""What a loop may give to either meter: no steps, buffers of its own, as many steps as operations."""

import numpy as np
import pytest
import torch

import rl_exporter.integrations.numpy as of_numpy
import rl_exporter.integrations.torch as of_torch
from tests.exporter.integrations.meter.test_numpy_twin import both, meters_of, tensors, update
from tests.support.metered_loops import Loop, assert_same


def test_masks_of_as_many_steps_as_there_are_operations_are_of_these_steps():
    """And not one step's, by operation: whether steps come together makes no difference."""
    generator = np.random.default_rng(0)
    masks = generator.random((8, 2, 5)) < 0.6
    masks[..., [0, 2]] = True
    actions = np.stack([generator.integers(2, size=(8, 2)), np.zeros((8, 2), int)], -1)
    logits = generator.standard_normal((8, 2, 5))
    operations = of_numpy.Operations("op", [(), ("b",)])
    for meter, convert in zip(both({"op": 2, "b": 3}, operations=operations), (dict, tensors), strict=True):
        found = []
        for parts in (range(8), [slice(None)]):
            for part in parts:
                meter.add(**convert({"logits": logits[part], "masks": masks[part], "actions": actions[part]}))
            found.append(meter.result())
        assert_same(*found)


AXES = ((2, 3), (6,), (1, 6), (6, 1))
"""Axes of six steps that go together."""


@pytest.mark.parametrize("axes", AXES)
def test_flat_steps_go_with_any_axes(axes):
    generator = np.random.default_rng(0)
    logits, masks = generator.standard_normal((2, 3, 7)), np.ones((*axes, 7), bool)
    actions, paid = np.zeros((*axes, 2), int), generator.standard_normal(axes)
    given = {"masks": masks, "actions": actions, "advantages": paid, "log_probs": paid, "old_log_probs": paid}
    for meter, convert in zip(both({"a": 4, "b": 3}), (dict, tensors), strict=True):
        for own in (logits, logits.reshape(6, 7)):
            meter.add(**convert({"logits": own, **given}))
        assert meter.result()["entropy"].keys() == {"a", "b"}


@pytest.mark.parametrize("consult", [None, [(), ("b",)]])
@pytest.mark.parametrize("by_operation", [True, False])
def test_a_rollout_is_read_by_sampled_operation_as_minibatches_are(by_operation, consult):
    generator = np.random.default_rng(0)
    masks = generator.random((400, 2, 5)) < 0.7
    masks[..., [0, 1, 2]] = True
    actions = np.stack([generator.integers(2, size=400), generator.integers(3, size=400)], -1)
    paid = generator.standard_normal(400) + (actions[:, 0] == 1) * (actions[:, 1] == 0)
    given = {"masks": masks if by_operation else masks[:, 0], "actions": actions}
    logits = generator.standard_normal((400, 5)) + 3 * np.eye(5)[2]
    for library, convert in ((of_numpy, dict), (of_torch, tensors)):
        found = []
        for in_minibatches in (True, False):
            meter = library.HeadMeter({"op": 2, "b": 3}, operations=library.Operations("op", consult))
            whole = convert({"logits": logits, "advantages": paid, **given})
            if in_minibatches:
                meter.add(**whole)
            else:
                meter.add(whole["logits"], whole["masks"], actions=whole["actions"])
                meter.add_rollout(whole["actions"], whole["advantages"], whole["masks"])
            found.append(meter.result())
        assert_same(*found)
        assert found[0]["advantage_margin"]["b"] > 0.2


def results(add):
    """What each meter says of one minibatch, which ``add`` gives to it; NumPy's first."""
    loop = Loop((4, 3), epochs=1, minibatches=1)
    for meter, convert in zip(meters_of(loop), (dict, tensors), strict=True):
        (((arguments,), _),) = loop.epochs_of_minibatches()
        add(meter, convert({name: part.copy() for name, part in arguments.items()}))
        yield meter.result()


def plainly(meter, arguments):
    meter.add(**arguments)


def test_no_steps_add_nothing():
    def between_empty_ones(meter, arguments):
        none = {name: part[:0] for name, part in arguments.items()}
        for each in (none, arguments, none):
            meter.add(**each)

    for found, expected in zip(results(between_empty_ones), results(plainly), strict=True):
        assert_same(found, expected)


def test_a_loop_may_write_over_what_it_gave():
    def written_over(meter, arguments):
        meter.add(**arguments)
        for buffer in arguments.values():
            buffer[...] = 0

    for found, expected in zip(results(written_over), results(plainly), strict=True):
        assert_same(found, expected)
        assert "advantage_margin" in expected


def test_the_device_of_the_logits_decides_and_no_default():
    loop = Loop((4, 3), epochs=2, minibatches=2, gradients=False)
    expected = update(*meters_of(loop), loop)[1]
    torch.set_default_device("meta")
    try:
        assert_same(update(*meters_of(loop), loop)[1], expected)
    finally:
        torch.set_default_device(None)
