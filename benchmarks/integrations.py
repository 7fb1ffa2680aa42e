"""Measures what the integrations of TorchRL and skrl cost, as a share of an update of the library's PPO.

An update that is measured and one that is not take turns on the same agent and the same rollout, so that their
ratio holds on any machine. CPU time, of one thread; policies of two sizes, with eight heads.

    python -m benchmarks.integrations
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import torch
from skrl.agents.torch.ppo import PPO
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, Model, MultiCategoricalMixin
from tensordict import TensorDict
from tensordict import nn as td
from torch import nn
from torch.distributions import Categorical
from torchrl.modules import ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss

from rl_exporter import HeadRecorder, serve
from rl_exporter.integrations import skrl, torchrl

SIZES = {"op": 6, "slot": 3, "blueprint": 13, "style": 4, "tempo": 3, "target": 3, "speed": 4, "curve": 5}
STEPS, MINIBATCHES, EPOCHS, FEATURES, PAIRS = 2048, 8, 4, 64, 12
TOTAL = sum(SIZES.values())

Update = Callable[[], None]


def body(width: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    hidden = [nn.Linear(FEATURES, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(width, outputs))


@contextmanager
def of_torchrl(width: int, recorder: HeadRecorder) -> Iterator[tuple[Update, Update]]:
    """An update without and one with the hook."""
    td.set_composite_lp_aggregate(False).set()
    keys = [("params", name, "logits") for name in SIZES]
    split = td.TensorDictModule(lambda row: row.split([*SIZES.values()], -1), ["row"], keys)
    network = body(width, TOTAL)
    layers = td.TensorDictSequential(td.TensorDictModule(network, ["seen"], ["row"]), split)
    kinds = {"distribution_map": dict.fromkeys(SIZES, Categorical)}
    options = {"distribution_class": td.CompositeDistribution, "distribution_kwargs": kinds}
    actor = ProbabilisticActor(layers, ["params"], out_keys=[*SIZES], return_log_prob=True, **options)
    loss = ClipPPOLoss(actor, ValueOperator(body(width, 1), ["seen"]))
    optimizer = torch.optim.Adam(loss.parameters(), 1e-4)
    batch = TensorDict({"seen": torch.randn(STEPS, FEATURES)}, [STEPS])
    with torch.no_grad():
        actor(batch)
    batch["advantage"], batch["value_target"] = torch.randn(2, STEPS, 1)

    def update(hook: torchrl.HeadEntropyHook | None = None) -> None:
        for _ in range(EPOCHS):
            for index in torch.randperm(STEPS).chunk(MINIBATCHES):
                optimizer.zero_grad()
                found = loss(batch[index])
                (found["loss_objective"] + found["loss_critic"] + found["loss_entropy"]).backward()
                if hook is not None:
                    hook.gradients(network[-1])
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimizer.step()

    def measured() -> None:
        hook = torchrl.HeadEntropyHook(loss, recorder, frames_per_batch=STEPS)
        update(hook)
        hook.record(batch)
        hook.remove()

    yield update, measured


class Policy(MultiCategoricalMixin, Model):
    """Logits of all heads."""

    def __init__(self, width: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        MultiCategoricalMixin.__init__(self)
        self.net = body(width, TOTAL)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[torch.Tensor, dict[str, Any]]:  # noqa: ARG002 - skrl gives it
        """Logits."""
        return self.net(inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    """The return that is to be expected."""

    def __init__(self, width: int, **spaces: Any) -> None:
        Model.__init__(self, **spaces)
        DeterministicMixin.__init__(self)
        self.net = body(width, 1)

    def compute(self, inputs: dict[str, Any], role: str) -> tuple[torch.Tensor, dict[str, Any]]:  # noqa: ARG002 - skrl gives it
        """A number."""
        return self.net(inputs["observations"]), {}


@contextmanager
def of_skrl(width: int, recorder: HeadRecorder) -> Iterator[tuple[Update, Update]]:
    """An update without and one with the measurement."""
    spaces = {
        "observation_space": gymnasium.spaces.Box(-9.0, 9.0, (FEATURES,)),
        "action_space": gymnasium.spaces.MultiDiscrete([*SIZES.values()]),
    }
    environments = 16
    agent = PPO(
        models={"policy": Policy(width, **spaces), "value": Value(width, **spaces)},
        memory=RandomMemory(memory_size=STEPS // environments, num_envs=environments, device="cpu"),
        cfg={"rollouts": STEPS // environments, "learning_epochs": EPOCHS, "mini_batches": MINIBATCHES}
        | {"learning_rate": 1e-4, "entropy_loss_scale": 0.01}
        | {"experiment": {"write_interval": 0, "checkpoint_interval": 0}},
        device="cpu",
        **spaces,
    )
    agent.init()
    agent.enable_training_mode(True, apply_to_models=True)
    for _ in range(STEPS // environments):
        seen = torch.randn(environments, FEATURES)
        with torch.no_grad():
            actions, _ = agent.act(seen, None, timestep=0, timesteps=1)
        nothing = torch.zeros(environments, 1, dtype=torch.bool)
        agent.record_transition(
            observations=seen, states=None, actions=actions, rewards=torch.randn(environments, 1),
            next_observations=seen, next_states=None, terminated=nothing, truncated=nothing, infos={},
            timestep=0, timesteps=1,
        )  # fmt: skip

    def measured() -> None:
        with skrl.measure(agent, recorder, gradients=agent.policy.net[-1]):
            agent.update(timestep=0, timesteps=1)

    yield lambda: agent.update(timestep=0, timesteps=1), measured


def seconds(update: Update) -> float:
    """CPU time of one update."""
    started = time.process_time()
    update()
    return time.process_time() - started


def main() -> None:
    """Measure and print the shares."""
    torch.set_num_threads(1)
    print(f"{STEPS} steps, {MINIBATCHES} minibatches, {EPOCHS} epochs, {len(SIZES)} heads; {PAIRS} pairs")
    for library in (of_torchrl, of_skrl):
        for width in (128, 512):
            torch.manual_seed(0)
            with (
                serve(SIZES, listen="127.0.0.1:0", linger=0) as recorder,
                library(width, recorder) as (plain, measured),
            ):
                plain(), measured()
                shares = [seconds(measured) / seconds(plain) - 1 for _ in range(PAIRS)]
            low, middle, high = statistics.quantiles(shares, n=4)
            name = library.__name__.removeprefix("of_")
            print(f"  {name:8} {width} units: {middle:6.1%} (quartiles {low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
