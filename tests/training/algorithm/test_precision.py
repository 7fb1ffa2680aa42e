"""With ``--precision bfloat16`` products with weights are coarse; what is measured and learned from them is not."""

import json
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rl_training.policy import lockstep, network
from rl_training.run.cli import main
from tests.support.agents import evaluate, setup

PRODUCTS = {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"}
TABLE = {"consult": "table"}


class _Dtypes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.products, self.others = set(), set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            name = operation.name().partition(".")[0]
            (self.products if name in PRODUCTS else self.others).add(found.dtype)
        return found


@contextmanager
def dtypes():
    with _Dtypes() as seen:
        yield seen


def trained_pair(updates=5):
    """A trained policy in float32, and one with its parameters in bfloat16."""
    _, agent, collector = setup(arguments=TABLE)
    for _ in range(updates):
        agent._update_network(collector.collect(64))
    _, coarse, other = setup(arguments=TABLE, precision="bfloat16")
    coarse.network.load_state_dict(agent.network.state_dict())
    return agent, coarse, collector, other


@pytest.mark.slow
def test_numbers_are_float32_and_close_to_those_of_float32():
    agent, coarse, collector, _ = trained_pair()
    rollout = collector.collect(64)
    expected, found = evaluate(agent, rollout), evaluate(coarse, rollout)
    pairs = {
        "entropy": (found.distribution.entropy, expected.distribution.entropy),
        "log-probability": (found.log_probs, expected.log_probs),
        "logits": (found.logits, expected.logits),
        "value": (found.values, expected.values),
    }
    # bfloat16 has 8 bits, so that a product is off by 2^-9 of its size, and there are four in a row.
    scale = expected.logits.abs().max().item(), expected.values.abs().max().item()
    tolerance = {"value": 2**-6 * scale[1]}
    for name, (coarse_numbers, numbers) in pairs.items():
        assert coarse_numbers.dtype == torch.float32, name
        assert 0 < (coarse_numbers - numbers).abs().max() < tolerance.get(name, 2**-6 * scale[0]), name


@pytest.mark.slow
def test_an_entropy_is_on_no_coarse_grid():
    """In bfloat16 entropies of about 1 nat would be multiples of 2^-7."""
    _, coarse, _, collector = trained_pair()
    entropy = evaluate(coarse, collector.collect(64)).distribution.entropy
    between = entropy[entropy > 0]
    assert (between.to(torch.bfloat16).float() != between).float().mean() > 0.9


def test_an_update_multiplies_in_bfloat16_and_nothing_is_float16():
    _, agent, collector = setup(arguments=TABLE, precision="bfloat16", epochs=1)
    rollout = collector.collect(64)
    with dtypes() as seen:
        result = agent._update_network(rollout)
    assert result.error is None
    # The recurrent state is float32, and telemetry's products are, too.
    assert seen.products == {torch.bfloat16, torch.float32}
    assert torch.float16 not in seen.others
    assert {parameter.dtype for parameter in agent.network.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in agent.network.parameters()} == {torch.float32}


def test_float32_multiplies_nothing_in_bfloat16():
    _, agent, collector = setup(arguments=TABLE, epochs=1)
    with dtypes() as seen:
        agent._update_network(collector.collect(64))
    assert not {torch.bfloat16, torch.float16} & (seen.products | seen.others)


@pytest.mark.slow
def test_importance_ratios_begin_at_one():
    """A policy that acted in float32 would have moved before its first step."""
    _, coarse, _, collector = trained_pair()
    rollout = collector.collect(64)
    log_ratio = (evaluate(coarse, rollout).log_probs - rollout.log_probs)[rollout.choice]
    assert log_ratio.abs().max() < 1e-4


def test_the_lockstep_pass_steps_aside(monkeypatch):
    _, agent, collector = setup(arguments=TABLE, precision="bfloat16")
    monkeypatch.delattr(lockstep, "sequences")
    monkeypatch.delattr(lockstep, "step")
    assert agent._update_network(collector.collect(16)).error is None


def test_distributions_are_computed_outside_of_autocast(monkeypatch):
    """Some operations would take bfloat16 there, whatever they are given."""
    _, agent, collector = setup(arguments=TABLE, precision="bfloat16")
    rollout, inside = collector.collect(16), []

    class Asked(network.MaskedCategorical):
        def __init__(self, *arguments, **named):
            inside.append(torch.is_autocast_enabled("cpu"))
            super().__init__(*arguments, **named)

    monkeypatch.setattr(network, "MaskedCategorical", Asked)
    agent._update_network(rollout)
    assert inside
    assert not any(inside)


@pytest.mark.slow
def test_heads_is_learned_in_bfloat16(tmp_path):
    log = tmp_path / "log.jsonl"
    fixed = ["--listen", "127.0.0.1:0", "--quiet", "--linger", "0", "--log-json", str(log)]
    assert main(["--env", "heads", "--updates", "30", "--precision", "bfloat16", *fixed]) == 0
    assert json.loads(log.read_text().splitlines()[-1])["rl_training_episode_return"] > 15.3
