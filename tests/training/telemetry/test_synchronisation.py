"""On a GPU, telemetry makes the host wait for the device once per update."""

import pytest
import torch

from rl_training.telemetry import update
from rl_training.telemetry.result import UpdateResult
from tests.support.agents import narrowed, setup
from tests.support.host_reads import host_reads

EPOCHS = 3


def reads_of_an_update(monkeypatch, telemetry, dependent=()):
    config = {"epochs": EPOCHS, "target_kl": 100.0, "telemetry": telemetry}
    _, agent, collector = setup(arguments={"consult": "table"}, **config)
    rollout = collector.collect(16)
    for head in dependent:
        rollout = narrowed(rollout, agent.network.layout, head)
    # It divides on the host what the transfer brought there.
    monkeypatch.setattr(update, "divide", lambda *arguments, **named: UpdateResult())
    with host_reads(monkeypatch) as reads:
        result = agent._update_network(rollout)
    assert result.error is None
    return reads


def test_training_waits_once_an_epoch(monkeypatch):
    assert reads_of_an_update(monkeypatch, telemetry=False) == ["tolist"] * EPOCHS


@pytest.mark.parametrize("dependent", [(), (1, 2)])
def test_telemetry_waits_once_an_update(monkeypatch, dependent):
    reads = reads_of_an_update(monkeypatch, telemetry=True, dependent=dependent)
    assert reads == ["tolist"] * EPOCHS + ["cpu"]


READS = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu().numpy().tolist(),
    "__bool__": lambda x: bool(x.any()),
    "__int__": lambda x: int(x.sum()),
    "__float__": lambda x: float(x.sum()),
    "aten::nonzero": lambda x: x.nonzero(),
    "aten::index.Tensor": lambda x: x[x > 1],
    "aten::masked_select": lambda x: x.masked_select(x > 1),
    "aten::segment_reduce": lambda x: torch.segment_reduce(x, "max", lengths=torch.tensor([1, 2]), axis=0),
}


@pytest.mark.parametrize("name", READS)
def test_every_kind_of_read_is_counted(monkeypatch, name):
    numbers = torch.arange(3.0)
    with host_reads(monkeypatch) as reads:
        READS[name](numbers)
    assert name in reads


def test_what_reads_nothing_is_not_counted(monkeypatch):
    numbers, index = torch.arange(3.0), torch.tensor([0, 0, 1])
    with host_reads(monkeypatch) as reads:
        numbers.new_zeros(2).index_add_(0, index, numbers).cumsum(0)
        torch.segment_reduce(numbers, "max", lengths=torch.tensor([1, 2]), axis=0, unsafe=True)
        torch.where(numbers > 1, numbers, 0.0)[index]
    assert reads == []
