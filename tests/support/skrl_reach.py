"""Small agents of skrl with several heads, and what their losses evaluated, by a second forward pass."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model, MultiCategoricalMixin
from skrl.trainers.torch import SequentialTrainer
from torch import nn

from tests.support.update_by_hand import Evaluated, joined

ENVIRONMENTS, ROLLOUTS = 3, 16


class Reach(gymnasium.Env):
    """Random observations; each head earns by matching the sign of its own one. Seven steps an episode."""

    def __init__(self, sizes=(4, 2, 6), names=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Discrete(sizes) if isinstance(sizes, int) else spaces.MultiDiscrete(sizes)
        self.heads = 1 if isinstance(sizes, int) else len(sizes)
        if names is not None:
            self.head_names = names

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._observe(), {}

    def step(self, action):
        reward = float((np.atleast_1d(action) == (np.resize(self._seen, self.heads) > 0)).sum())
        self._time += 1
        return self._observe(), reward, self._time == 7, False, {}

    def _observe(self):
        self._seen = self.np_random.normal(size=4).astype(np.float32)
        return self._seen


def environment(sizes=(4, 2, 6), names=None, device="cpu"):
    vector = SyncVectorEnv([lambda: Reach(sizes, names)] * ENVIRONMENTS, autoreset_mode=AutoresetMode.SAME_STEP)
    vector.device = device
    return wrap_env(vector, verbose=False)


def spaces_and_device(env):
    return {"observation_space": env.observation_space, "action_space": env.action_space, "device": env.device}


def plain(logits, seen):
    return logits


class Policy(MultiCategoricalMixin, Model):
    """One layer for all logits. ``shown`` is what the network makes of them."""

    def __init__(self, env, shown=plain, **options):
        Model.__init__(self, **spaces_and_device(env))
        MultiCategoricalMixin.__init__(self, **options)
        self.layer, self.shown = nn.Linear(4, int(env.action_space.nvec.sum())), shown
        with torch.no_grad():
            self.layer.weight.mul_(4.0)

    def compute(self, inputs, role):
        return self.shown(self.layer(inputs["observations"]), inputs["observations"]), {}


class PlainPolicy(CategoricalMixin, Model):
    """The same with one head."""

    def __init__(self, env, shown=plain, **options):
        Model.__init__(self, **spaces_and_device(env))
        CategoricalMixin.__init__(self, **options)
        self.layer, self.shown = nn.Linear(4, int(env.action_space.n)), shown
        with torch.no_grad():
            self.layer.weight.mul_(4.0)

    def compute(self, inputs, role):
        return self.shown(self.layer(inputs["observations"]), inputs["observations"]), {}


class Value(DeterministicMixin, Model):
    def __init__(self, env):
        Model.__init__(self, **spaces_and_device(env))
        DeterministicMixin.__init__(self)
        self.layer = nn.Linear(4, 1)

    def compute(self, inputs, role):
        return self.layer(inputs["observations"]), {}


def make_agent(env, policy=Policy, kind=PPO, value=None, memory_size=ROLLOUTS, policy_options=None, **cfg):
    torch.manual_seed(4)
    models = {"policy": policy(env, **(policy_options or {}))}
    models["value"] = Value(env) if value is None else value(models["policy"])
    defaults = {"rollouts": ROLLOUTS, "mini_batches": 3, "entropy_loss_scale": 0.01, "learning_rate": 0.02}
    defaults["experiment"] = {"write_interval": 0, "checkpoint_interval": 0}
    if kind is PPO:
        defaults["learning_epochs"] = 2
    return kind(
        models=models, memory=RandomMemory(memory_size=memory_size, num_envs=ENVIRONMENTS, device=env.device),
        cfg=defaults | cfg, **spaces_and_device(env),
    )  # fmt: skip


def train(env, agent, timesteps=ROLLOUTS):
    SequentialTrainer(
        cfg={"timesteps": timesteps, "headless": True, "disable_progressbar": True, "close_environment_at_exit": False},
        env=env, agents=agent,
    ).train()  # fmt: skip


class Witness:
    """Sees each minibatch that a loss evaluates, and computes it once more; and gradients before clipping."""

    def __init__(self, agent, sizes, monkeypatch, masks_of=None):
        self.agent, self.sizes, self.masks_of = agent, list(sizes), masks_of
        self.epochs, self.norms, self.losses = [], [], []
        sample, clip, update = agent.memory.sample, torch.nn.utils.clip_grad_norm_, agent.update
        act = agent.policy.act

        def sampling(names, **options):
            self.epochs.append([])
            self.given = [dict(zip(names, part, strict=True)) for part in sample(names=names, **options)]
            return [list(part.values()) for part in self.given]

        def acting(inputs, **options):
            if "taken_actions" in inputs:
                self.epochs[-1].append(self.second_pass(inputs, len(self.epochs[-1])))
            return act(inputs, **options)

        def clipping(parameters, limit):
            self.norms.append(self.head_norms())
            return clip(parameters, limit)

        def updating(**options):
            for kept in (self.epochs, self.norms):
                kept.clear()
            update(**options)

        monkeypatch.setattr(agent.memory, "sample", sampling)
        monkeypatch.setattr(agent.policy, "act", acting)
        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clipping)
        monkeypatch.setattr(agent, "update", updating)

    def second_pass(self, inputs, index):
        given, seen = self.given[index], inputs["observations"]
        with torch.no_grad():
            logits = self.agent.policy.layer(seen)
        masks = torch.ones_like(logits, dtype=torch.bool) if self.masks_of is None else self.masks_of(seen)
        return Evaluated(
            [part.cpu().numpy().copy() for part in logits.split(self.sizes, 1)],
            [part.cpu().numpy() for part in masks.split(self.sizes, 1)],
            given["actions"].long().cpu().numpy(), given["log_prob"].cpu().numpy(),
            given["advantages"].flatten().double().cpu().numpy(),
        )  # fmt: skip

    def head_norms(self):
        layer = self.agent.policy.layer
        rows = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1).double()
        return [torch.linalg.vector_norm(part).item() for part in rows.split(self.sizes)]

    def whole(self):
        return [joined(minibatches) for minibatches in self.epochs if minibatches]
