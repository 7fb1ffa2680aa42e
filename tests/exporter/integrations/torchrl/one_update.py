"""One update of a policy whose logits a test makes, and what it should measure of a head."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, set_composite_lp_aggregate
from torch import nn
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

from rl_exporter import serve
from rl_exporter.integrations.torchrl import HeadEntropyHook
from tests.support.update_by_hand import Evaluated

STEPS = 48
CLOSE = {"abs": 1e-6, "rel": 2e-6}


class Network(nn.Module):
    """Logits (…, *shape), and whatever a test makes of them."""

    def __init__(self, shape, shown=lambda logits: logits):
        super().__init__()
        self.layer, self.shape, self.shown = nn.Linear(4, int(np.prod(shape))), shape, shown
        with torch.no_grad():
            self.layer.weight.mul_(6.0)

    def forward(self, seen):
        return self.shown(self.layer(seen).unflatten(-1, self.shape))


def policy(network, distribution, **kwargs):
    torch.manual_seed(3)
    set_composite_lp_aggregate(False).set()
    key = "probs" if kwargs.pop("probabilities", False) else "logits"
    module = TensorDictModule(network, in_keys=["seen"], out_keys=[key])
    return ProbabilisticActor(
        module, in_keys=[key], distribution_class=distribution, return_log_prob=True, **kwargs
    )


def experience(actor, batch=(STEPS,), advantages=None):
    torch.manual_seed(7)
    found = TensorDict({"seen": torch.randn(*batch, 4)}, batch)
    with torch.no_grad():
        actor(found)
    found["advantage"] = torch.randn(*(advantages or batch), 1)
    found["value_target"] = torch.randn(*(advantages or batch), 1)
    return found


def run(actor, data, heads, kind=ClipPPOLoss, critic=None, **options):
    """One update: two epochs of three minibatches. The snapshot, and the logits of each minibatch."""
    critic = critic or ValueOperator(nn.Linear(4, 1), in_keys=["seen"])
    loss, seen = kind(actor, critic, **options), []
    optimizer = torch.optim.Adam(loss.parameters(), 0.02)
    network = actor[0].module
    with serve(heads, listen="127.0.0.1:0", linger=0) as recorder:
        hook = HeadEntropyHook(loss, recorder, frames_per_batch=data.numel())
        for order in (torch.arange(STEPS), torch.arange(STEPS).flip(0)):
            for index in order.chunk(3):
                with torch.no_grad():
                    seen.append(network(data["seen"][index]))
                output = loss(data[index])
                sum(value.sum() for key, value in output.items() if key.startswith("loss_")).backward()
                optimizer.step()
                optimizer.zero_grad()
        hook.record()
        return recorder.snapshot(), seen


def epochs_of(seen, data, actions, masks=None, old=None):
    """As ``Evaluated``, one head, from logits (S, n) of each minibatch."""
    found = []
    for logits, order in zip(
        (seen[:3], seen[3:]), (torch.arange(STEPS), torch.arange(STEPS).flip(0)), strict=True
    ):
        rows = torch.cat(logits).double().numpy()
        valid = np.ones(rows.shape, bool) if masks is None else masks[order]
        sampled = data["action_log_prob"] if old is None else old
        found.append(
            Evaluated(
                [rows], [valid], actions[order][:, None].numpy(), sampled[order].numpy()[:, None],
                data["advantage"][order].flatten().double().numpy(),
            )
        )  # fmt: skip
    return found


def assert_head(reading, expected):
    for number, value in expected.items():
        assert getattr(reading, number) == (None if value is None else pytest.approx(value, **CLOSE)), number
