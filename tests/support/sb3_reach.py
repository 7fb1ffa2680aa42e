"""Small runs with several heads, and the numbers of a policy computed once more, with NumPy alone."""

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from rl_exporter.integrations.sb3 import HeadEntropyCallback


class Reach(gymnasium.Env):
    """Random observations; each head earns by matching the sign of its own one. Episodes of five steps."""

    def __init__(self, sizes=(4, 2, 6), names=None, masks=None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Discrete(sizes) if isinstance(sizes, int) else spaces.MultiDiscrete(sizes)
        self.sizes = [sizes] if isinstance(sizes, int) else list(sizes)
        if names is not None:
            self.head_names = names
        self._draw_masks = masks
        self._time = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._time = 0
        return self._observe(), {}

    def step(self, action):
        wanted = np.resize(self._observation, len(self.sizes)) > 0
        reward = float((np.atleast_1d(action) == wanted).sum())
        self._time += 1
        return self._observe(), reward, self._time == 5, False, {}

    def action_masks(self):
        return self._masks

    def _observe(self):
        self._observation = self.np_random.normal(size=4).astype(np.float32)
        if self._draw_masks is not None:
            self._masks = self._draw_masks(self.np_random, self.sizes)
        return self._observation


def random_masks(generator, sizes):
    """Each head: its first action, and each other one half the time; the last head never has a choice."""
    parts = [generator.random(size) < 0.5 for size in sizes]
    parts[-1][:] = False
    for part in parts:
        part[0] = True
    return np.concatenate(parts)


def policy_logits(policy, observations):
    """Logits (S, Σn) of an MLP policy, by NumPy from its weights."""
    values = np.asarray(observations, np.float64).reshape(-1, 4)
    layers = [*policy.mlp_extractor.policy_net, policy.action_net]
    for layer in layers:
        if isinstance(layer, torch.nn.Linear):
            values = values @ numbers(layer.weight).T.astype(np.float64) + numbers(layer.bias)
        else:
            values = np.tanh(values)
    return values


def numbers(tensor):
    return tensor.detach().cpu().numpy()


def head_entropies(logits, sizes, masks=None):
    """Entropy of each head at each step, (S, H), in nats, over its valid actions."""
    masks = np.ones(logits.shape, bool) if masks is None else masks.reshape(logits.shape).astype(bool)
    columns = []
    for part, valid in zip(split(logits, sizes), split(masks, sizes), strict=True):
        weights = np.where(valid, np.exp(part - part.max(1, keepdims=True)), 0.0)
        p = weights / weights.sum(1, keepdims=True)
        columns.append(-(p * np.log(np.where(p > 0, p, 1.0))).sum(1))
    return np.stack(columns, 1)


def split(columns, sizes):
    return np.split(columns, np.cumsum(sizes)[:-1], axis=1)


OPTIONS = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 1, "device": "cpu"}


def small_ppo(environment=None, **options):
    return PPO("MlpPolicy", environment or Reach(), **(OPTIONS | options))


def local(**options):
    return HeadEntropyCallback(**({"listen": "127.0.0.1:0", "linger": 0} | options))


class At(BaseCallback):
    """Calls a function at the start of the rollout with this number."""

    def __init__(self, rollout, function):
        super().__init__()
        self.left, self.function = rollout, function

    def _on_rollout_start(self):
        self.left -= 1
        if self.left == 0:
            self.function(self.model)

    def _on_step(self):
        return True


def fail(error):
    def function(model):
        raise error

    return function


def assert_untouched(model):
    assert "entropy" not in vars(model.policy.action_dist)
    for parameter in model.policy.action_net.parameters():
        assert not parameter._post_accumulate_grad_hooks
