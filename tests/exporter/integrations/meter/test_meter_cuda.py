"""HeadMeter on a GPU, where there is one."""

import warnings

import pytest
import torch
from torch import nn

from rl_exporter.integrations.torch import HeadMeter

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    # torch warns of its own compiler and of its counter of waits.
    pytest.mark.filterwarnings("default"),
]

SIZES = {"arm": 3, "leg": 5, "fixed": 1}


def metered(device, compiled=False):
    """The numbers of two updates of the same policy."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 9)
    observations, masks = torch.randn(512, 6), torch.rand(512, 9) < 0.7
    masks[:, [0, 3, 8]] = True
    old, advantages = 0.1 * torch.randn(512, 3), torch.randn(512)
    layer, observations, masks, old, advantages = (
        part.to(device) for part in (layer, observations, masks, old, advantages)
    )
    meter = HeadMeter(SIZES)

    def loss(rows):
        logits = layer(observations[rows])
        meter.add(
            logits, masks[rows], log_probs=logits[:, :3], old_log_probs=old[rows], advantages=advantages[rows],
            actions=torch.zeros(len(logits), 3, device=device),
        )  # fmt: skip
        return logits.square().mean()

    step = torch.compile(loss, fullgraph=True) if compiled else loss
    for _ in range(2):
        for rows in (slice(0, 256), slice(256, 512)):
            layer.zero_grad()
            step(rows).backward()
            meter.gradients(layer)
        meter.end_epoch()
        yield meter


def results(device, compiled=False):
    return [meter.result() for meter in metered(device, compiled)]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_numbers_are_those_of_the_cpu(compiled):
    for host, device in zip(results("cpu"), results("cuda", compiled), strict=True):
        assert host.keys() == device.keys()
        for number, heads in host.items():
            for name, value in heads.items() if isinstance(heads, dict) else [("", heads)]:
                other = device[number][name] if name else device[number]
                assert other == pytest.approx(value, rel=1e-4, abs=1e-5), (number, name)


def test_the_host_waits_once_an_update():
    waits = []
    for update, meter in enumerate(metered("cuda")):
        if not update:
            meter.result()
            torch.cuda.set_sync_debug_mode("error")  # nothing before the end of the second update may wait
            continue
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert meter.result()["entropy"]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits = [str(one.message) for one in caught if "synchroniz" in str(one.message)]
    assert len(waits) == 1
