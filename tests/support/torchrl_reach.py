"""Small PPO loops of TorchRL with several heads, and what their losses evaluated, by a second forward pass."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from tensordict.nn import CompositeDistribution, TensorDictModule, set_composite_lp_aggregate
from torch import nn
from torch.distributions import Categorical
from torchrl.data import LazyTensorStorage, ReplayBuffer, SamplerWithoutReplacement
from torchrl.envs import Compose, GymWrapper, RewardSum, StepCounter, TransformedEnv
from torchrl.modules import MaskedCategorical, ProbabilisticActor, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from tests.support.update_by_hand import Evaluated, joined

SIZES = {"arm": 5, "gripper": 3, "valve": 2}
FRAMES = 60


class Reach(gymnasium.Env):
    """Random observations and masks; each head earns by matching the sign of its own one. Seven steps an episode."""

    def __init__(self, sizes=SIZES):
        self.sizes = sizes
        self.observation_space = spaces.Dict(
            {"seen": spaces.Box(-np.inf, np.inf, (4,), np.float32)}
            | {f"{name}_mask": spaces.Box(0, 1, (n,), np.int8) for name, n in sizes.items()}
        )
        self.action_space = spaces.Dict({name: spaces.Discrete(n) for name, n in sizes.items()})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._observe(), {}

    def step(self, action):
        wanted = np.resize(self._seen, len(self.sizes)) > 0
        reward = float(sum(int(a) == w for a, w in zip(action.values(), wanted, strict=True)))
        self._time += 1
        return self._observe(), reward, self._time == 7, False, {}

    def _observe(self):
        self._seen = self.np_random.normal(size=4).astype(np.float32)
        masks = {f"{name}_mask": self.np_random.random(n) < 0.5 for name, n in self.sizes.items()}
        for mask in masks.values():
            mask[0] = True
        return {"seen": self._seen} | {name: mask.astype(np.int8) for name, mask in masks.items()}


class Actor(nn.Module):
    """One layer for all logits; the masks pass through as booleans."""

    def __init__(self, sizes=SIZES):
        super().__init__()
        self.layer = nn.Linear(4, sum(sizes.values()))
        self.sizes = list(sizes.values())
        with torch.no_grad():
            self.layer.weight.mul_(6.0)

    def forward(self, seen, *masks):
        logits = self.layer(seen).split(self.sizes, -1)
        return *logits, *(mask.bool() for mask in masks)


class Loop:
    """PPO: a rollout, then epochs over it. ``masked`` names the heads whose distributions have masks.

    ``evaluated`` keeps a second forward pass of each minibatch.
    """

    def __init__(self, masked=(), kind=ClipPPOLoss, sizes=SIZES, device="cpu", **options):
        torch.manual_seed(5)
        set_composite_lp_aggregate(False).set()
        self.sizes, self.masked = sizes, tuple(masked)
        environment = GymWrapper(Reach(sizes), categorical_action_encoding=True, device=device)
        self.environment = TransformedEnv(environment, Compose(RewardSum(), StepCounter()))
        self.environment.set_seed(3)
        self.network = Actor(sizes).to(device)
        self.actor = self._actor()
        self.critic = ValueOperator(nn.Linear(4, 1, device=device), in_keys=["seen"])
        self.loss = kind(self.actor, self.critic, **({"loss_critic_type": "l2"} | options))
        self.gae = GAE(gamma=0.99, lmbda=0.95, value_network=self.critic)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), 0.02)
        self.evaluated, self.outputs, self.norms = [], [], []

    def _actor(self):
        parameters = [("params", name, "logits") for name in self.sizes]
        parameters += [("params", name, "mask") for name in self.masked]
        module = TensorDictModule(
            self.network, in_keys=["seen", *(f"{name}_mask" for name in self.masked)], out_keys=parameters
        )
        kinds = {name: MaskedCategorical if name in self.masked else Categorical for name in self.sizes}
        return ProbabilisticActor(
            module, in_keys=["params"], spec=self.environment.action_spec, return_log_prob=True,
            distribution_class=CompositeDistribution, distribution_kwargs={"distribution_map": kinds},
        )  # fmt: skip

    def rollout(self, frames=FRAMES):
        with torch.no_grad():
            batch = self.environment.rollout(frames, self.actor, break_when_any_done=False)
            self.gae(batch)
        return batch

    def epochs(self, batch, epochs=2, minibatch=16, *, drop_last=False, stop=None, hook=None):
        """Yields after each epoch; ``stop`` is the number of minibatches after which the loop stops."""
        sampler = SamplerWithoutReplacement(drop_last=drop_last)
        for _ in range(epochs):
            buffer = ReplayBuffer(
                storage=LazyTensorStorage(len(batch), device=batch.device or "cpu"),
                sampler=sampler,
                batch_size=minibatch,
            )
            buffer.extend(batch)
            self.evaluated.append([])
            for sampled in buffer:
                self.step(sampled, hook)
                if stop is not None and sum(map(len, self.evaluated)) == stop:
                    return
            yield

    def step(self, sampled, hook=None):
        self.evaluated[-1].append(self.second_pass(sampled))
        output = self.loss(sampled)
        sum(value for key, value in output.items() if key.startswith("loss_")).backward()
        self.outputs.append((output.detach(), len(sampled)))
        self.norms.append(self.head_norms())
        if hook is not None:
            hook.gradients(self.network.layer)
        nn.utils.clip_grad_norm_(self.loss.parameters(), 0.1)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def second_pass(self, sampled):
        with torch.no_grad():
            logits = self.network.layer(sampled["seen"]).split(list(self.sizes.values()), -1)
        masks = [
            sampled[f"{name}_mask"].bool() if name in self.masked else torch.ones_like(part, dtype=torch.bool)
            for name, part in zip(self.sizes, logits, strict=True)
        ]
        columns = [
            torch.stack([sampled[f"{name}{suffix}"] for name in self.sizes], 1) for suffix in ("", "_log_prob")
        ]
        arrays = [column.cpu().numpy() for column in columns]
        advantages = sampled["advantage"].flatten().double().cpu().numpy()
        return Evaluated(
            [x.cpu().numpy() for x in logits], [m.cpu().numpy() for m in masks], *arrays, advantages
        )

    def head_norms(self):
        layer = self.network.layer
        rows = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1).double()
        return [torch.linalg.vector_norm(part).item() for part in rows.split(list(self.sizes.values()))]

    def whole(self):
        """The epochs of the update, those that were not empty."""
        return [joined(minibatches) for minibatches in self.evaluated if minibatches]

    def mean(self, key):
        """Of what the loss returned, over the steps."""
        weights = [steps for _, steps in self.outputs]
        return np.average([float(output[key]) for output, _ in self.outputs], weights=weights)
