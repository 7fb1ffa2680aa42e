"""The second softmax of telemetry is that of the policy, whatever stands at actions that are not valid."""

import pytest
import torch

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.softmax import MaskBits, Softmax, wide_logits
from rl_training.policy.distributions import MaskedCategorical

LAYOUT = HeadLayout(["a", "b"], [4, 3])


def both(logits, mask):
    wide = wide_logits(logits)
    found = Softmax(MaskBits.of(mask, wide.dtype).scores(wide).movedim(-1, 0).contiguous(), LAYOUT)
    return found, MaskedCategorical(logits, mask, LAYOUT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_it_is_the_softmax_of_the_policy(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    logits = (scale * torch.randn(50, 7, generator=generator)).to(dtype)
    mask = torch.rand(50, 7, generator=generator) < 0.5
    mask[:, [0, 4]] = True
    found, expected = both(logits, mask)
    probabilities = found.probabilities().movedim(0, -1)
    assert torch.allclose(probabilities, expected.log_probs.exp(), atol=1e-6)
    assert torch.allclose(found.entropy().movedim(0, -1), expected.entropy, atol=1e-6)
    assert (probabilities[~mask] == 0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("valid", [True, False])
def test_what_is_not_finite_shows_where_the_action_is_valid_and_nowhere_else(value, valid):
    logits, mask = torch.zeros(1, 7), torch.ones(1, 7, dtype=torch.bool)
    logits[0, 1], mask[0, 1] = value, valid
    found, expected = both(logits, mask)
    assert torch.equal(found.peak.isnan().movedim(0, -1), expected.peak.isnan())
    entropy = found.entropy().movedim(0, -1)
    assert torch.equal(entropy.isnan(), expected.entropy.isnan())
    assert entropy.isnan().tolist() == [[valid, False]]


def test_a_head_with_one_valid_action_has_no_entropy_at_all():
    mask = torch.tensor([[True, False, False, False, True, True, True]])
    found, _ = both(torch.randn(1, 7), mask)
    assert found.entropy()[0].item() == 0.0
