"""On a GPU, telemetry makes the host wait for the device once per update, and the trainer uploads without a wait."""

import numpy as np
import pytest
import torch

from rl_exporter.integrations.meter.uploads import upload
from rl_training.algorithm import ppo
from tests.support.agents import narrowed, setup
from tests.support.stand_in_gpu import GPU, stand_in_gpu

EPOCHS, STEPS = 3, 16


def agent_and_collector(telemetry=True):
    config = {"epochs": EPOCHS, "target_kl": 100.0, "telemetry": telemetry}
    _, agent, collector = setup(arguments={"consult": "table"}, **config)
    return agent, collector


def traffic_of_an_update(monkeypatch, telemetry, dependent=()):
    agent, collector = agent_and_collector(telemetry)
    rollout = collector.collect(STEPS)
    for head in dependent:
        rollout = narrowed(rollout, agent.network.layout, head)
    agent.device = GPU
    # The host adds them to those that the update brings there.
    with stand_in_gpu(monkeypatch, on_host=agent._advantage_sums) as traffic:
        result = agent._update_network(rollout)
    assert result.error is None
    assert bool(result.head_state_information) == telemetry
    return traffic


def test_training_waits_once_an_epoch(monkeypatch):
    assert traffic_of_an_update(monkeypatch, telemetry=False).waits == ["tolist"] * EPOCHS


@pytest.mark.parametrize("dependent", [(), (1, 2)])
def test_telemetry_waits_once_an_update(monkeypatch, dependent):
    waits = traffic_of_an_update(monkeypatch, telemetry=True, dependent=dependent).waits
    assert waits == ["tolist"] * EPOCHS + ["cpu"]


def test_an_update_uploads_twice_an_epoch(monkeypatch):
    """Environments and fragments of all minibatches of an epoch; once, the choice shares, and for telemetry the
    fragments of the rollout."""
    assert len(traffic_of_an_update(monkeypatch, telemetry=False).uploads) == 2 * EPOCHS + 1
    assert len(traffic_of_an_update(monkeypatch, telemetry=True).uploads) == 2 * EPOCHS + 2


def test_a_rollout_waits_once_a_step_for_the_actions(monkeypatch):
    _, collector = agent_and_collector()
    collector._device = GPU
    with stand_in_gpu(monkeypatch) as traffic:
        assert collector.collect(STEPS) is not None
    assert traffic.waits == ["cpu"] * STEPS
    # Observations and masks of each step, and what the update needs of the whole rollout.
    assert len(traffic.uploads) < 2 * STEPS + 16


def test_a_wait_within_an_update_is_seen(monkeypatch):
    clean = traffic_of_an_update(monkeypatch, telemetry=True).waits
    losses = ppo.ppo_losses

    def curious(*arguments):
        found = losses(*arguments)
        found.total.item()
        return found

    monkeypatch.setattr(ppo, "ppo_losses", curious)
    waits = traffic_of_an_update(monkeypatch, telemetry=True).waits
    assert waits.count("item") == EPOCHS * 8
    assert [wait for wait in waits if wait != "item"] == clean


class _Curious(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x * 2

    @staticmethod
    def backward(_ctx, upstream):
        return upstream * upstream.sum().item()


WAITS = {
    "item": lambda x: x.sum().item(),
    "item in a gradient": lambda x: _Curious.apply(x.requires_grad_()).sum().backward(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu().numpy().tolist(),
    "__bool__": lambda x: bool(x.any()),
    "__int__": lambda x: int(x.sum()),
    "__float__": lambda x: float(x.sum()),
    "aten::nonzero": lambda x: x.nonzero(),
    "aten::index.Tensor": lambda x: x[x > 1],
    "aten::masked_select": lambda x: x.masked_select(x > 1),
    "aten::equal": lambda x: torch.equal(x, x),
    "aten::segment_reduce": lambda x: torch.segment_reduce(x, "max", lengths=x.long().clamp(1, 2)[1:], axis=0),
    "to": lambda x: x.to("cpu"),
    "as_tensor": lambda x: torch.as_tensor(np.arange(3), device=x.device),
    "tensor": lambda x: torch.tensor([1.0], device="cuda"),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "__getitem__": lambda x: x[np.array([0, 1])],
    "mul": lambda x: x * torch.arange(3.0),
    "copy_": lambda x: x.copy_(torch.arange(3.0)),
}


@pytest.mark.parametrize("name", WAITS)
def test_every_kind_of_wait_is_counted(monkeypatch, name):
    numbers = torch.arange(3.0)
    with stand_in_gpu(monkeypatch) as traffic:
        WAITS[name](numbers)
    assert traffic.waits == [name.partition(" ")[0]]
    assert traffic.uploads == []


BLOCKING_UPLOADS = {
    "from ordinary memory": lambda host: host.to("cuda", non_blocking=True),
    "without non_blocking": lambda host: host.pin_memory().to("cuda"),
}


@pytest.mark.parametrize("name", BLOCKING_UPLOADS)
def test_a_copy_that_blocks_is_no_upload(monkeypatch, name):
    with stand_in_gpu(monkeypatch) as traffic:
        BLOCKING_UPLOADS[name](torch.arange(3.0))
    assert (traffic.waits, traffic.uploads) == (["to"], [])


def test_an_upload_does_not_wait_and_its_numbers_are_on_the_device(monkeypatch):
    with stand_in_gpu(monkeypatch) as traffic:
        there = upload(np.arange(3), GPU)
        assert (traffic.waits, traffic.uploads) == ([], ["to"])
        assert there.device == GPU
        assert there.tolist() == [0, 1, 2]
    assert traffic.waits == ["tolist"]


def test_what_waits_for_nothing_is_not_counted(monkeypatch):
    numbers, index = torch.arange(3.0), torch.tensor([0, 0, 1])
    lengths = torch.tensor([1, 2])
    with stand_in_gpu(monkeypatch) as traffic:
        numbers.new_zeros(2).index_add_(0, index, numbers).cumsum(0)
        torch.segment_reduce(numbers, "max", lengths=lengths, axis=0, unsafe=True)
        torch.where(numbers > 1, numbers, 0.0)[index]
        torch.arange(3.0).sum().item()
        torch.from_numpy(np.arange(3)).numpy().tolist()
    assert traffic.waits == []
