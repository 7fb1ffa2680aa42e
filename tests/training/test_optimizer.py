"""Adam without the compiler: torch's numbers, and a run that starts without it."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from rl_training.optimizer import Adam

RUN = """
import sys, torch
{before}
from rl_training.run.cli import main
main("--env heads --updates 1 --quiet --linger 0 --listen 127.0.0.1:0".split())
print("torch._dynamo" in sys.modules)
"""


def network():
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))


def trained(kind, steps=30):
    torch.manual_seed(0)
    module = network()
    optimizer = kind(module.parameters(), lr=1e-2, eps=1e-5, fused=True)
    inputs = torch.randn(11, 5)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        module(inputs).square().sum().backward()
        optimizer.step()
    return module, optimizer, inputs


def test_it_does_to_the_last_bit_what_that_of_torch_does():
    (ours, adam, _), (theirs, of_torch, _) = trained(Adam), trained(torch.optim.Adam)
    torch.testing.assert_close(list(ours.parameters()), list(theirs.parameters()), rtol=0, atol=0)
    torch.testing.assert_close(adam.state_dict(), of_torch.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("former", "now"), [(torch.optim.Adam, Adam), (Adam, torch.optim.Adam)])
def test_either_goes_on_from_the_state_of_the_other(former, now):
    module, optimizer, inputs = trained(former)
    found = []
    for kind in (former, now):
        copy = network()
        copy.load_state_dict(module.state_dict())
        other = kind(copy.parameters(), lr=1.0, fused=True)
        other.load_state_dict(deepcopy(optimizer.state_dict()))
        copy(inputs).square().sum().backward()
        other.step()
        found.append(list(copy.parameters()))
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_step_with_a_closure_has_its_gradients():
    module, optimizer, inputs = trained(Adam, steps=1)

    def closure():
        optimizer.zero_grad()
        loss = module(inputs).square().sum()
        loss.backward()
        return loss.item()

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "loaded"),
    [("", "False"), ("import rl_training.optimizer as own; own.Adam = torch.optim.Adam", "True")],
)
def test_a_run_starts_without_the_compiler(before, loaded):
    """It would take another second, and 130 MiB. With the optimizer of torch it is there."""
    words = [sys.executable, "-c", RUN.format(before=before)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == loaded
