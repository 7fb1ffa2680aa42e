"""The lines of docs/own-loops.md run, and measure what the logits say."""

import re

import numpy as np
import pytest
import torch
from scipy.stats import entropy as entropy_of

import rl_exporter
from rl_exporter.integrations.torch import HeadMeter
from tests.support import ROOT
from tests.support.threads import one_thread

__all__ = ["one_thread"]

PAGE = ROOT / "docs/own-loops.md"
SIZES = (4, 2, 6)
AGENTS, STEPS = 8, 5


class Policy(torch.nn.Module):
    """Logits in the form of PufferLib's policies; its loss calls ``forward_eval``, too, as their default does."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.layer = torch.nn.Linear(3, sum(sizes))
        self.seen = []

    def forward_eval(self, observations, state=None):
        logits = 3 * self.layer(observations)
        if not torch.is_grad_enabled():
            self.seen.append(logits.numpy())
        several = len(self.sizes) > 1
        return logits.split(self.sizes, dim=1) if several else logits, observations.sum(1)

    def forward(self, observations, state=None):
        return self.forward_eval(observations, state)


class Trainer:
    """In the order of PufferLib's trainer: a rollout without gradients, then a loss over some of it, several times."""

    def __init__(self, config, vecenv, policy):
        self.policy, self.global_step = policy, 0

    def evaluate(self):
        with torch.no_grad():
            for _ in range(STEPS):
                self.policy.forward_eval(torch.randn(AGENTS, 3), {"mask": torch.ones(AGENTS)})
        self.global_step += AGENTS * STEPS

    def train(self):
        for _ in range(3):
            logits, _ = self.policy(torch.randn(4, 3))
            sum(part.sum() for part in logits).backward()


class Attributes:
    """A namespace for the names that the page takes as known."""

    def __init__(self, **known):
        vars(self).update(known)


@pytest.mark.parametrize("sizes", [SIZES, (5,)])
def test_the_lines_for_pufferlib_measure_the_rollout(sizes, monkeypatch):
    wrapper, loop = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1:]
    torch.manual_seed(1)
    policy = Policy(sizes)
    serve = rl_exporter.serve
    monkeypatch.setattr(rl_exporter, "serve", lambda *a, **k: serve(*a, **k, listen="127.0.0.1:0", linger=0))
    names = {
        "torch": torch, "rl_exporter": rl_exporter, "HeadMeter": HeadMeter, "policy": policy,
        "pufferl": Attributes(PuffeRL=Trainer), "config": {"total_timesteps": 1},
        "vecenv": Attributes(single_action_space=Attributes(nvec=np.array(sizes))),
    }  # fmt: skip
    exec(wrapper, names)
    exec(loop, names)
    snapshot = names["recorder"].snapshot()
    assert (snapshot.tamiyo.updates, snapshot.environment_steps, snapshot.record_errors) == (
        1,
        AGENTS * STEPS,
        0,
    )
    rows = np.concatenate(policy.seen).astype(np.float64)
    assert len(rows) == AGENTS * STEPS
    for i, part in enumerate(np.split(rows, np.cumsum(sizes)[:-1], axis=1)):
        nats = entropy_of(np.exp(part), axis=1).mean()
        assert snapshot.tamiyo.readings[f"head_{i}"].entropy == pytest.approx(nats, rel=1e-6)


def test_the_form_to_which_sample_logits_pads_is_the_same_to_the_meter():
    torch.manual_seed(1)
    logits = [torch.randn(7, n) for n in SIZES]
    padded = torch.full((7, len(SIZES), max(SIZES)), -torch.inf)
    for i, part in enumerate(logits):
        padded[:, i, : SIZES[i]] = part
    results = []
    for form in (tuple(logits), padded):
        meter = HeadMeter({f"head_{i}": n for i, n in enumerate(SIZES)})
        meter.add(form)
        results.append(meter.result())
    assert results[0] == results[1]


def test_the_lines_for_cleanrl_are_those_of_the_example():
    lines, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    example = (ROOT / "examples/cleanrl_style.py").read_text()
    calls = re.findall(r"(?:meter|recorder)\.\w+\(", lines)
    assert len(calls) == 5
    for call in calls:
        assert call in example
    for keyword in re.findall(r"(\w+)=…", lines):
        assert f"{keyword}=" in example
