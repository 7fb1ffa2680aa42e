import gc
import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.algorithm.collector import dependent_heads, step_masks
from rl_training.policy.distributions import MaskedCategorical

LAYOUT = HeadLayout(("op", "slot", "wide"), (6, 3, 13))


def random_case(seed, rows=5):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3, size=(rows, LAYOUT.total)).astype(np.float32)
    mask = generator.random((rows, LAYOUT.total)) < 0.5
    for offset, size in zip(LAYOUT.offsets, LAYOUT.sizes, strict=True):
        mask[np.arange(rows), offset + generator.integers(size, size=rows)] = True
    return logits, mask


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_entropies_equal_two_independent_references(seed):
    logits, mask = random_case(seed)
    found = MaskedCategorical(torch.tensor(logits), torch.tensor(mask), LAYOUT).entropy.numpy()
    for row in range(len(logits)):
        for head, (offset, size) in enumerate(zip(LAYOUT.offsets, LAYOUT.sizes, strict=True)):
            kept = logits[row, offset : offset + size][mask[row, offset : offset + size]].astype(np.float64)
            shares = np.exp(kept - kept.max())
            assert found[row, head] == pytest.approx(scipy_entropy(shares), abs=1e-6)
            reference = torch.distributions.Categorical(logits=torch.tensor(kept)).entropy().item()
            assert found[row, head] == pytest.approx(reference, abs=1e-6)
            assert -1e-6 <= found[row, head] <= math.log(len(kept)) + 1e-6


def test_one_valid_action_has_exactly_no_entropy_and_finite_gradients():
    mask = torch.zeros(1, LAYOUT.total, dtype=torch.bool)
    mask[0, LAYOUT.offsets] = True
    logits = torch.randn(1, LAYOUT.total, requires_grad=True)
    distribution = MaskedCategorical(logits, mask, LAYOUT)
    assert (distribution.entropy == 0).all()
    (distribution.entropy.sum() + distribution.log_prob(torch.zeros(1, 3, dtype=torch.long)).sum()).backward()
    assert torch.isfinite(logits.grad).all()


def test_extreme_logits_stay_finite():
    logits = torch.full((1, LAYOUT.total), -1e4, requires_grad=True)
    with torch.no_grad():
        logits[0, LAYOUT.offsets] = 1e4
    distribution = MaskedCategorical(logits, torch.ones(1, LAYOUT.total, dtype=torch.bool), LAYOUT)
    distribution.entropy.sum().backward()
    assert (distribution.entropy == 0).all()
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_is_computed_in_float32():
    logits = torch.randn(4, LAYOUT.total).bfloat16()
    mask = torch.ones(4, LAYOUT.total, dtype=torch.bool)
    low = MaskedCategorical(logits, mask, LAYOUT).entropy
    assert low.dtype is torch.float32
    assert torch.equal(low, MaskedCategorical(logits.float(), mask, LAYOUT).entropy)


def test_float64_stays_float64():
    logits = torch.randn(4, LAYOUT.total, dtype=torch.float64)
    found = MaskedCategorical(logits, torch.ones(4, LAYOUT.total, dtype=torch.bool), LAYOUT)
    op = torch.distributions.Categorical(logits=logits[:, :6])
    assert found.entropy.dtype is torch.float64
    assert torch.allclose(found.entropy[:, 0], op.entropy(), rtol=0, atol=1e-14)


def test_a_row_without_a_valid_action_names_head_and_row():
    mask = torch.ones(2, 4, LAYOUT.total, dtype=torch.bool)
    mask[1, 2, 6:9] = False
    with pytest.raises(ValueError, match=r"head 'slot' allows no action in row \(1, 2\)"):
        MaskedCategorical(torch.zeros(2, 4, LAYOUT.total), mask, LAYOUT)


def test_sampling_follows_the_distribution_and_the_mask():
    logits, mask = random_case(3, rows=1)
    rows = 100_000
    distribution = MaskedCategorical(torch.tensor(logits), torch.tensor(mask), LAYOUT)
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(rows, LAYOUT.total).exponential_(generator=generator)
    actions = distribution.choose(noise)
    for head, (offset, size) in enumerate(zip(LAYOUT.offsets, LAYOUT.sizes, strict=True)):
        segment = slice(offset, offset + size)
        found = torch.bincount(actions[:, head], minlength=size).double() / rows
        assert torch.allclose(found, distribution.log_probs[0, segment].exp().double(), atol=0.01)
        assert (found[~torch.tensor(mask[0, segment])] == 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_logit_that_is_not_finite_shows_in_its_head_alone_and_only_where_it_is_valid(value):
    logits = torch.zeros(2, LAYOUT.total)
    logits[:, LAYOUT.offsets[1]] = value
    mask = torch.ones(2, LAYOUT.total, dtype=torch.bool)
    mask[1, LAYOUT.offsets[1]] = False
    found = MaskedCategorical(logits, mask, LAYOUT)
    assert torch.isnan(found.entropy).tolist() == [[False, True, False], [False] * 3]
    assert torch.isnan(found.peak).tolist() == [[False, bool(np.isnan(value)), False], [False] * 3]
    assert (found.choose(torch.ones(2, LAYOUT.total))[1, 1] > 0).all()


def test_step_masks_of_a_policy_with_operations():
    layout = HeadLayout(("op", "slot"), (3, 3))
    # op 0 consults nobody; op 1 slots 1 and 2; op 2 only slot 0 (so its table must say that it consults).
    rows = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 0, 0]], dtype=bool)[None]
    table = np.array([[True, False], [True, True], [True, True]])
    for operation, decides in ((0, False), (1, True), (2, False)):
        found = step_masks(rows, np.array([operation]), layout, table)
        assert found.decision.tolist() == [rows[0, operation].tolist()]
        assert found.step.tolist() == [[True] * 6]
        assert found.choice.tolist() == [[True, decides]]
        assert found.open.tolist() == [[True, True]]
    without_table = step_masks(rows, np.array([0]), layout)
    assert without_table.step.tolist() == [[True, True, True, False, True, True]]


def test_a_head_depends_on_the_operation_where_another_one_would_leave_it_more_choices():
    layout = HeadLayout(("op", "slot"), (3, 3))
    rows = np.array([[1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 1, 1], [1, 1, 0, 1, 1, 1]], dtype=bool)[None]
    for last, dependent in ((False, ()), (True, (1,))):
        rows[..., 2] = last  # whether the operation that leaves the slots three choices is valid
        found = step_masks(rows, np.array([1]), layout)
        assert dependent_heads(found, layout) == dependent
        # What an operation does not consult has no choice step, so that nothing depends there.
        assert dependent_heads(step_masks(rows, np.array([0]), layout), layout) == ()


def test_a_head_that_no_valid_operation_consults_has_its_canonical_action():
    layout = HeadLayout(("op", "slot"), (2, 3))
    rows = np.array([[1, 0, 1, 0, 0], [1, 0, 0, 1, 1]], dtype=bool)[None]
    found = step_masks(rows, np.array([0]), layout, np.array([[True, False], [True, True]]))
    assert found.step.tolist() == [[True, False, True, False, False]]
    assert found.open.tolist() == [[False, False]]
    assert found.choice.tolist() == [[False, False]]


def test_gradients_of_entropy_and_log_probability_are_those_of_finite_differences():
    logits, mask = (torch.tensor(array) for array in random_case(3, rows=4))
    actions = MaskedCategorical(logits, mask, LAYOUT).choose(torch.rand(4, LAYOUT.total))

    def numbers(given):
        distribution = MaskedCategorical(given.reshape(2, 2, -1), mask.reshape(2, 2, -1), LAYOUT)
        return distribution.entropy, distribution.log_prob(actions.reshape(2, 2, -1))

    assert torch.autograd.gradcheck(numbers, logits.double().requires_grad_())


def test_distributions_that_nobody_holds_are_freed_at_once():
    """A cycle through their gradient would keep those of every minibatch until the next collection."""
    logits = torch.zeros(2, LAYOUT.total, requires_grad=True)
    distribution = MaskedCategorical(logits, torch.ones(2, LAYOUT.total, dtype=torch.bool), LAYOUT)
    assert distribution.entropy.requires_grad
    weights = weakref.ref(distribution.columns.weights)
    gc.disable()
    try:
        del distribution
        assert weights() is None
    finally:
        gc.enable()
