"""Sums have names: packing, exchanging and unpacking follow from their declarations alone."""

import math

import pytest
import torch

from rl_exporter.integrations.meter.packing import failed_sums, on_host, pack
from rl_exporter.integrations.meter.sums import DECLARATIONS, Extent, UpdateSums, combine
from rl_training.telemetry.update import UpdateTelemetry
from tests.support.agents import setup

EXTENT = Extent(epochs=3, heads=2, actions=7)


def sums_of(rank, extent=EXTENT):
    """Numbers that differ between sums, between their elements and between ranks."""
    generator = torch.Generator().manual_seed(rank)
    shapes = {name: declared.shape(extent) for name, declared in DECLARATIONS.items()}
    return UpdateSums(**{name: torch.rand(shape, generator=generator) for name, shape in shapes.items()})


def different(found, expected):
    pairs = zip(UpdateSums._fields, found, expected, strict=True)
    return {name for name, one, other in pairs if not torch.equal(torch.as_tensor(one), other)}


def test_every_sum_is_declared():
    assert tuple(DECLARATIONS) == UpdateSums._fields
    assert all(set(declared.axes) <= set(Extent._fields) for declared in DECLARATIONS.values())


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_unpacking_returns_what_was_packed(epochs):
    extent = EXTENT._replace(epochs=epochs)
    sums = sums_of(0, extent)
    found = combine(on_host(pack(sums).unsqueeze(0)), extent)
    assert different(found, UpdateSums(*(part.double() for part in sums))) == set()


SHARED = (
    *("gradient_norm", "policy_loss", "value_loss", "optimizer_steps", "explained_variance"),
    *("head_gradient_norm", "head_gradient_steps", "nan_gradients", "inf_gradients", "preference_weights"),
)


def test_each_sum_combines_over_ranks_as_declared():
    ranks = [sums_of(rank) for rank in range(3)]
    found = combine(on_host(torch.stack([pack(sums) for sums in ranks])), EXTENT)
    for name in UpdateSums._fields:
        parts = torch.stack([getattr(sums, name).double() for sums in ranks])
        expected = {
            "importance_ratio_max": parts.amax(0),
            **dict.fromkeys(SHARED, parts[0]),
        }.get(name, parts.sum(0))
        assert torch.equal(torch.as_tensor(getattr(found, name)), expected), name


def test_counts_survive_the_row_exactly():
    many = torch.tensor([2**40 + 1, 7])
    sums = sums_of(0)._replace(nan_steps=many)
    assert combine(on_host(torch.stack([pack(sums)] * 2)), EXTENT).nan_steps.tolist() == [2 * (2**40 + 1), 14]


@pytest.mark.parametrize("whole_epochs", [0, 2])
def test_an_update_measures_every_sum_in_its_declared_shape(monkeypatch, whole_epochs):
    """And a rank that could not measure sends as much as the others."""
    measured = []
    original = UpdateTelemetry._measure

    def kept(self, *arguments):
        measured.append(original(self, *arguments))
        return measured[-1]

    monkeypatch.setattr(UpdateTelemetry, "_measure", kept)
    _, agent, collector = setup(epochs=2)
    if not whole_epochs:
        with torch.no_grad():
            agent.network.heads.bias_out[0, 0] = math.nan
    layout = agent.network.layout
    extent = Extent(whole_epochs, len(layout.sizes), layout.total)
    agent._update_network(collector.collect(4))
    (sums,) = measured
    for name, declared in DECLARATIONS.items():
        assert getattr(sums, name).shape == declared.shape(extent), name
    failed = failed_sums(extent, torch.device("cpu"))
    assert pack(failed).shape == pack(sums).shape
    assert [name for name, value in failed._asdict().items() if value.any()] == ["failed"]
