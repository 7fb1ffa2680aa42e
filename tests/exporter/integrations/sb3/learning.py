"""Models of several heads, and the snapshot after they learned."""

import numpy as np
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO

from rl_exporter.integrations.sb3 import HeadEntropyCallback
from tests.support.sb3_reach import Reach, numbers, random_masks, split

SIZES = (4, 2, 6)
NAMES = ["gripper", "valve", "arm"]


def ppo(environment=None, kind=PPO, **options):
    defaults = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu"}
    if kind is A2C:
        defaults = {"n_steps": 8, "seed": 3, "device": "cpu"}
    return kind("MlpPolicy", environment or Reach(SIZES, NAMES), **(defaults | options))


def masked(sizes=SIZES, masks=random_masks, **options):
    return ppo(Reach(sizes, NAMES[: len(sizes)], masks), MaskablePPO, **options)


def sharpen(model):
    """Give the heads different entropies: a fresh policy is uniform to three digits."""
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)
    return model


def learned(model, updates=1, **options):
    callback = HeadEntropyCallback("test", **({"listen": "127.0.0.1:0", "linger": 0} | options))
    model.learn(updates * model.n_steps * model.n_envs, callback=callback)
    return callback.recorder.snapshot()


def norms_of(model, monkeypatch):
    """Gradient norm of each head at each optimiser step to come, as it is handed to the clipping."""
    norms = []
    original = torch.nn.utils.clip_grad_norm_

    def clip(parameters, limit):
        layer = model.policy.action_net
        rows = np.concatenate([numbers(layer.weight.grad), numbers(layer.bias.grad)[:, None]], 1)
        norms.append([np.linalg.norm(part) for part in split(rows.T, SIZES)])
        return original(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    return norms
