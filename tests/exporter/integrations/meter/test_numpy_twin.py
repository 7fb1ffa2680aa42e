"""The meter for NumPy and JAX measures what the meter for PyTorch measures, in every number."""

import math
from dataclasses import replace
from inspect import signature

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import rl_exporter.integrations.numpy as of_numpy
import rl_exporter.integrations.torch as of_torch
from tests.support.metered_loops import LOOPS, Loop, as_tensors, assert_same

DTYPES = {
    "float64": (np.float64, torch.float64),
    "float32": (np.float32, torch.float32),
    "float16": (np.float16, torch.float16),
    "bfloat16": (ml_dtypes.bfloat16, torch.bfloat16),
}

# To shrink a failure takes minutes, and the loop that failed says as much.
NO_SHRINK = (Phase.reuse, Phase.generate)


def tensors(arguments, dtype=None):
    """The same numbers for the meter of PyTorch."""
    found = {name: torch.from_numpy(np.array(value)) for name, value in arguments.items() if name != "logits"}
    # Through float32, which holds every number of half precision, because torch does not know types of ml_dtypes.
    wide = np.array(arguments["logits"], np.float32 if dtype in (torch.float16, torch.bfloat16) else None)
    return {**found, "logits": torch.from_numpy(wide).to(dtype)}


def both(heads, **options):
    """A meter of each library, NumPy's first."""
    return [library.HeadMeter(heads, **options) for library in (of_numpy, of_torch)]


def meters_of(loop, **options):
    return both(loop.heads, operations=loop.operation_heads, **options)


def update(array, tensor, loop, dtype="float64"):
    """What both meters say of one update."""
    of_array, of_tensor = DTYPES[dtype]
    norms = loop.norms()
    for minibatches, whole in loop.epochs_of_minibatches():
        for arguments in minibatches:
            with np.errstate(over="ignore"):  # float16 has no -1e8, but infinity
                arguments["logits"] = arguments["logits"].astype(of_array)
            array.add(**arguments)
            tensor.add(**tensors(arguments, of_tensor))
            if loop.gradients:
                gradient = next(norms).astype(np.float32)
                array.gradients(gradient)
                tensor.gradients([parameter_with(gradient)])
        if whole:
            array.end_epoch()
            tensor.end_epoch()
    return array.result(), tensor.result()


def parameter_with(gradient):
    parameter = torch.nn.Parameter(torch.zeros(gradient.shape))
    parameter.grad = torch.tensor(gradient)
    return parameter


def harmless(loop):
    """A first update, because a meter checks its first minibatch; it also gives the margins a past."""
    masks = "random" if loop.masks == "empty" else loop.masks
    return replace(loop, epochs=1, minibatches=1, cut_short=False, bad=False, masks=masks)


def compare(loop, dtype):
    meters = meters_of(loop)
    assert_same(*update(*meters, harmless(loop), dtype))
    assert_same(*update(*meters, loop, dtype))


@pytest.mark.parametrize(
    ("loop", "dtype"),
    [
        (Loop((1,)), "float64"),
        (Loop((4, 1, 3), operations="table", bad=True, padding=True, cut_short=True), "float32"),
        (Loop((3, 2, 4), operations="masks", sharpness=5.0), "bfloat16"),
        (Loop((70, 3), steps=200), "float64"),
        (Loop((6, 5), masks="inferred", epochs=3, padding=True), "float16"),
        (Loop((6, 5), masks="empty", consulted=True, operations="row"), "float64"),
        (Loop((6, 5), epochs=0, cut_short=True, bad=True), "float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "x".join(map(str, value.sizes)),
)
def test_every_number_is_that_of_the_meter_for_torch(loop, dtype):
    compare(loop, dtype)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, phases=NO_SHRINK)
@given(LOOPS, st.sampled_from(sorted(DTYPES)))
def test_every_number_of_any_loop_is_that_of_the_meter_for_torch(loop, dtype):
    compare(loop, dtype)


@pytest.mark.parametrize("masks", ["none", "random"])
@pytest.mark.parametrize("sizes", [(1500,), (1030, 3)])
def test_heads_with_the_vocabulary_of_a_language_model_are_the_same(sizes, masks):
    loop = Loop(sizes, masks=masks, sharpness=5.0, padding=True, cut_short=True)
    found, expected = update(*meters_of(loop), loop)
    assert_same(found, expected)
    assert ("state_information" in found) == (masks == "none")
    assert "h0" not in found.get("action_shares", {})


def test_a_head_that_a_valid_operation_would_leave_nothing_is_not_measured():
    """The sampled operation, 1, leaves it actions; 0 consults it, too, and leaves it none."""
    loop = Loop((2, 3), operations="table", steps=4)
    meters = meters_of(loop)
    update(*meters, harmless(loop))
    masks = np.ones((4, 2, 5), bool)
    masks[2, 0, 2:] = False
    arguments = {"logits": np.zeros((4, 5)), "masks": masks, "actions": np.tile([1, 0], (4, 1))}
    for meter, minibatch in zip(meters, (arguments, tensors(arguments)), strict=True):
        meter.add(**minibatch)
        found = meter.measured()
        assert found.empty_masks == {"h1": 1}
        assert found.head_entropy_history["h1"] == ()


@pytest.mark.parametrize("clip", [0.05, 0.2])
def test_the_clip_range_is_that_of_the_loop(clip):
    loop = Loop((3, 3), ratios="joint")
    found, expected = update(*meters_of(loop, clip=clip), loop)
    assert found["clipped_share"] == expected["clipped_share"]
    assert 0 < found["clipped_share"] < 1


def test_a_meter_ends_epochs_by_itself():
    loop = Loop((3, 3), epochs=1, minibatches=6, steps=10)
    meters = both(loop.heads, epoch_steps=30)
    ((minibatches, _),) = loop.epochs_of_minibatches()
    for arguments in minibatches:
        meters[0].add(**arguments)
        meters[1].add(**tensors(arguments))
    found, expected = (meter.measured() for meter in meters)
    assert len(found.head_entropy_history["h0"]) == 2
    for head, means in expected.head_entropy_history.items():
        assert found.head_entropy_history[head] == pytest.approx(means, abs=1e-9)


def test_gradients_by_head_are_the_same():
    generator = np.random.default_rng(0)
    kernel, bias = (generator.standard_normal(shape).astype(np.float32) for shape in ((5, 4), 4))
    bias[0] = math.inf
    array, tensor = both({"a": 4, "b": 3, "c": 2})
    for gradients in ({"a": [kernel], "b": [kernel, bias]}, {"a": [bias], "b": [bias[1:]]}):
        array.add(np.zeros((2, 9)))
        tensor.add(torch.zeros(2, 9))
        array.gradients(gradients)
        tensor.gradients({head: [parameter_with(part) for part in own] for head, own in gradients.items()})
    found = array.result()
    assert_same(found, tensor.result())
    assert found["head_gradient_norm"].keys() == {"a", "b"}
    assert found["inf_gradients"] == {"a": 1, "b": 1}


def test_the_meters_have_the_same_arguments():
    ours, others = of_numpy.HeadMeter, of_torch.HeadMeter
    for name in ("__init__", "add", "add_rollout", "end_epoch"):
        one, other = (list(signature(getattr(kind, name)).parameters) for kind in (ours, others))
        assert one == other, name
    # Inside a compiled graph, and for RLlib's learners, whose processes agree on the number of epochs themselves.
    torch_alone = {"add_eagerly", "whole_epochs", "keep_epochs"}
    public = {name for name in vars(others) if not name.startswith("_")} - torch_alone
    assert {name for name in vars(ours) if not name.startswith("_")} == public


@pytest.mark.parametrize("epoch_steps", [None, 100])
def test_an_update_without_a_whole_epoch_is_measured_where_the_loop_wants_it(epoch_steps):
    loop = Loop((3, 3), epochs=0, cut_short=True)
    for partial in (False, True):
        found, expected = update(*meters_of(loop, epoch_steps=epoch_steps, partial_epochs=partial), loop)
        assert_same(found, expected)
        assert ("entropy" in found) == (partial or epoch_steps is None)


def test_the_advantages_of_a_rollout_stand_for_those_of_minibatches():
    loop = Loop((4, 3), advantages=False)
    generator = np.random.default_rng(0)
    masks = generator.random((60, 7)) < 0.7
    masks[:, [0, 4]] = True
    rollout = {
        "actions": np.stack([generator.integers(size, size=60) for size in loop.sizes], 1),
        "advantages": generator.standard_normal(60),
    }
    meters = meters_of(loop)
    for of_masks in ({}, {"masks": masks}):
        meters[0].add_rollout(**rollout, **of_masks)
        meters[1].add_rollout(**as_tensors(rollout | of_masks))
        found, expected = update(*meters, loop)
        assert_same(found, expected)
        assert found["advantage_margin"].keys() == {"h0", "h1"}


def test_a_layer_with_one_row_for_each_head_is_the_same():
    gradient = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    array, tensor = both({"a": 2, "b": 2})
    array.add(np.zeros((3, 4)))
    tensor.add(torch.zeros(3, 4))
    array.gradients([gradient, gradient[:, 0]])
    tensor.gradients([parameter_with(gradient), parameter_with(gradient[:, 0])])
    assert_same(array.result(), tensor.result())


@pytest.mark.parametrize("operations", ["none", "row", "table"])
def test_padding_may_hold_anything(operations):
    """Masks without any action, actions that no head has, logits that are NaN."""
    loop = Loop((4, 3), operations=operations, padding=True, epochs=1, minibatches=1)
    (((arguments,), _),) = loop.epochs_of_minibatches()
    padding = ~arguments["valid"]
    odd = {name: part.copy() for name, part in arguments.items()}
    odd["actions"][padding], odd["masks"][padding], odd["logits"][padding] = -100, False, np.nan
    for meter, convert in zip(meters_of(loop), (dict, tensors), strict=True):
        results = []
        for given_ in (odd, arguments):
            meter.add(**convert(given_))
            results.append(meter.measured())
        assert results[0].head_entropy_history == results[1].head_entropy_history
        assert results[0].choice_share == results[1].choice_share
        assert results[0].head_advantage_margin.keys() == {"h0", "h1"}


def test_importance_ratios_of_half_precision_are_exact():
    """In bfloat16 the difference would be -0.1797 and the ratio 1.1953."""
    new, old = (np.full((4, 2), value, ml_dtypes.bfloat16) for value in (-1.0, -1.18))
    array, tensor = both({"a": 4, "b": 3}, clip=0.196)
    array.add(np.zeros((4, 7)), log_probs=new, old_log_probs=old)
    new, old = (torch.from_numpy(part.astype(np.float32)).bfloat16() for part in (new, old))
    tensor.add(torch.zeros(4, 7), log_probs=new, old_log_probs=old)
    found = array.result()
    assert_same(found, tensor.result())
    assert found["clipped_share"] == 1.0
