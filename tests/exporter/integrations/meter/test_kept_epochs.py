"""A loop may say how many of its epochs count."""

import pytest
import torch

from rl_exporter.integrations.torch import HeadMeter


def entropy_of(logits):
    return torch.distributions.Categorical(logits=logits).entropy().mean().item()


def test_only_the_first_epochs_count_in_the_means():
    epochs = [torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)) * 3 for seed in range(3)]
    meter = HeadMeter({"arm": 3})
    for logits in epochs:
        meter.add(logits)
        meter.end_epoch()
    assert meter.whole_epochs == 3
    meter.keep_epochs(2)
    assert meter.whole_epochs == 2
    expected = sum(map(entropy_of, epochs[:2])) / 2
    assert meter.result()["entropy"]["arm"] == pytest.approx(expected, abs=1e-6)
    assert meter.whole_epochs == 0


@pytest.mark.parametrize("ended", [True, False])
def test_without_a_kept_epoch_nothing_is_measured(ended):
    """Also not the part of an epoch that would count as a whole one where the loop ends none."""
    meter = HeadMeter({"arm": 3})
    meter.add(torch.zeros(4, 3))
    if ended:
        meter.end_epoch()
        meter.add(torch.zeros(4, 3))
    meter.keep_epochs(0)
    assert "entropy" not in meter.result()
    meter.add(torch.zeros(4, 3))
    assert "entropy" in meter.result()
