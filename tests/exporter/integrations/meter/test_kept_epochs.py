"""Processes that finish different numbers of epochs agree on the smallest."""

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
