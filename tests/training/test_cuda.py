"""The trainer on a GPU. Without one these tests are skipped; the same code is tested on the CPU elsewhere.

They import neither a server nor a library that the trainer's update does without, so that they run on a bare machine.
"""

import hashlib
import subprocess
import sys
import warnings
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rl_exporter import RunInfo, SanctumAggregator
from rl_training.algorithm.collector import RolloutCollector
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment
from rl_training.run.checkpoint import load, save
from rl_training.telemetry.emitter import build_payload
from tests.support.agents import narrowed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
EPOCHS, STEPS, ENVIRONMENTS = 2, 16, 16
SYNCHRONIZING = "called a synchronizing CUDA operation"

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    # Libraries and drivers warn of themselves; the test of warnings looks for those that are ours.
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """cuDNN rounds the factors of an LSTM to TF32 unless told not to."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def setup(device=CUDA, seed=0, arguments=None, **config):
    env = make_environment("heads", ENVIRONMENTS, arguments or {"consult": "table"})
    config = PPOConfig(**{"epochs": EPOCHS, "rollout_steps": STEPS, "target_kl": 100.0, **config})
    agent = PPOAgent(env.heads, env.observation_size, config, seed=seed, device=device)
    return agent, RolloutCollector(env, agent.network, seed=seed, device=device)


def trained(updates=2, **options):
    agent, collector = setup(**options)
    results = [agent._update_network(collector.collect(STEPS)) for _ in range(updates)]
    assert [result.error for result in results] == [None] * updates
    return agent, collector


def copy_of(agent, **options):
    """Another agent in the same state, of which it shares nothing."""
    other, _ = setup(**options)
    other.restore(deepcopy(agent.state()))
    return other


def moved(rollout, device):
    """The rollout on another device. Two masks may be one tensor, and stay one."""
    there = {}

    def move(value):
        if isinstance(value, tuple) and value and isinstance(value[0], torch.Tensor):
            return tuple(map(move, value))
        if isinstance(value, torch.Tensor):
            return there.setdefault(id(value), value.to(device))
        return value

    return replace(rollout, **{field.name: move(getattr(rollout, field.name)) for field in fields(rollout)})


def parameters(agent):
    return torch.cat([parameter.detach().flatten() for parameter in agent.network.parameters()]).cpu()


def numbers(result):
    """Every number of an update by name."""
    payload = build_payload(result)
    records = {"run": payload, **payload.heads}
    named = {
        f"{name}.{field.name}": getattr(record, field.name)
        for name, record in records.items()
        for field in fields(record)
    }
    return {
        f"{name}.{index}": number
        for name, value in named.items()
        for index, number in enumerate(value if isinstance(value, tuple) else (value,))
        if isinstance(number, (int, float))
    }


@contextmanager
def synchronizations():
    """Counts how often the host waits for the GPU."""
    found = []
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found += [str(warning.message) for warning in seen if SYNCHRONIZING in str(warning.message)]


def test_the_policy_acts_as_on_the_cpu():
    (_, on_cpu), (_, on_gpu) = setup(CPU), setup(CUDA)
    expected, found = on_cpu.collect(STEPS), on_gpu.collect(STEPS)
    assert (found.actions.cpu() == expected.actions).float().mean() > 0.999
    torch.testing.assert_close(found.log_probs.cpu(), expected.log_probs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.next_values.cpu(), expected.next_values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("critic", ["own", "shared"])
@pytest.mark.parametrize("arguments", [{"consult": "table"}, {"delay": 1}], ids=["table", "delay"])
def test_an_update_gives_the_numbers_of_the_cpu(critic, arguments):
    """Of a trained policy, so that the numbers are no longer those of a uniform one."""
    options = {"arguments": arguments, "critic": critic}
    on_cpu, collector = trained(device=CPU, **options)
    on_gpu = copy_of(on_cpu, **options)
    rollout = collector.collect(STEPS)
    expected, found = on_cpu._update_network(rollout), on_gpu._update_network(moved(rollout, CUDA))
    assert found.error is None
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-4, abs=1e-5)
    torch.testing.assert_close(parameters(on_gpu), parameters(on_cpu), rtol=1e-4, atol=1e-4)


def waits_of_an_update(telemetry, dependent=()):
    agent, _ = trained(telemetry=telemetry)
    _, collector = setup(CPU)
    rollout = collector.collect(STEPS)
    for head in dependent:
        rollout = narrowed(rollout, collector._layout, head)
    rollout = moved(rollout, CUDA)
    with synchronizations() as found:
        result = agent._update_network(rollout)
    assert bool(result.head_state_information) == telemetry
    return len(found)


@pytest.mark.parametrize("dependent", [(), (1, 2)])
def test_telemetry_adds_one_synchronization_to_an_update(dependent):
    assert waits_of_an_update(telemetry=False) == EPOCHS
    assert waits_of_an_update(telemetry=True, dependent=dependent) == EPOCHS + 1


def test_a_rollout_synchronizes_once_a_step():
    _, collector = trained()
    with synchronizations() as found:
        collector.collect(STEPS)
    assert len(found) == STEPS


def test_a_synchronization_is_counted():
    x = torch.ones(3, device=CUDA)
    with synchronizations() as found:
        x.sum().item()
        x.cpu()
        torch.as_tensor([1.0], device=CUDA)
    assert len(found) == 3


def test_torch_warns_of_nothing():
    """Such as of an LSTM whose weights do not lie together, which it would copy in every call."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        trained()
        trained(precision="bfloat16")
    assert [str(warning.message) for warning in seen if "RNN" in str(warning.message)] == []


class _Dtypes(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        self.seen |= {
            part.dtype for part in (found if isinstance(found, tuple) else (found,)) if hasattr(part, "dtype")
        }
        return found


def test_bfloat16_is_close_to_float32_and_never_float16():
    agent, collector = trained(updates=5)
    coarse = copy_of(agent, precision="bfloat16")
    rollout = collector.collect(STEPS)
    with _Dtypes() as dtypes:
        found = coarse._update_network(rollout)
    assert torch.bfloat16 in dtypes.seen
    assert torch.float16 not in dtypes.seen
    expected = agent._update_network(rollout)
    for head, entropies in expected.head_entropy_history.items():
        assert found.head_entropy_history[head] == pytest.approx(entropies, abs=0.02)


def test_bfloat16_learns():
    agent, collector = setup(precision="bfloat16", epochs=8, minibatches=4, target_kl=0.2)
    returns = []
    for _ in range(10):
        assert agent._update_network(collector.collect(2 * STEPS)).error is None
        returns.append(collector.episode_return)
    assert returns[-1] > 1.3 * returns[0]


RUN = """
import torch
from rl_training.config import RunConfig
from rl_training.run.determinism import deterministic_where_asked
from tests.training.test_cuda import digest, trained
with deterministic_where_asked(RunConfig(device="cuda", deterministic=True)):
    print(*(digest(trained(updates=3, precision=precision)[0]) for precision in ("float32", "bfloat16")))
"""


def digest(agent):
    return hashlib.sha256(parameters(agent).numpy().tobytes()).hexdigest()


def test_deterministic_runs_agree_bit_for_bit():
    """In processes of their own, because cuBLAS reads its workspace once."""
    first, second = (
        subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    exact, coarse = first.stdout.split()
    assert exact != coarse


def test_a_checkpoint_continues_on_either_device(tmp_path):
    agent, collector = trained()
    rollout = collector.collect(STEPS)
    snapshot = SanctumAggregator(agent.heads, RunInfo("checked")).snapshot()
    save(tmp_path, agent, collector, snapshot)
    for device in (CUDA, CPU):
        other, _ = setup(device, seed=7)
        load(tmp_path, other)
        assert torch.equal(parameters(other), parameters(agent))
        assert next(other.network.parameters()).device.type == device.type
        assert other._update_network(moved(rollout, device)).error is None
    expected = agent._update_network(rollout)
    resumed, _ = setup(seed=7)
    load(tmp_path, resumed)
    found = resumed._update_network(rollout)
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-4, abs=1e-5)
    torch.testing.assert_close(parameters(resumed), parameters(agent), rtol=1e-4, atol=1e-4)


def test_the_command_trains_and_resumes(tmp_path):
    pytest.importorskip("rich")
    command = [sys.executable, "-m", "rl_training", "--env", "heads", "--device", "cuda", "--deterministic",
               "--precision", "bfloat16", "--checkpoint", str(tmp_path), "--listen", "127.0.0.1:0", "--linger", "0",
               "--quiet", "--run-id", "on-a-gpu"]  # fmt: skip
    for options in (["--updates", "2"], ["--updates", "4", "--resume"]):
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
