"""What a loop may give to either meter: no steps, buffers of its own, as many steps as operations."""

import numpy as np
import torch

import rl_exporter.integrations.numpy as of_numpy
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
