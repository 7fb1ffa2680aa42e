"""A policy gradient in NumPy, metered: two heads learn to name the largest part of an observation.

    python examples/numpy_loop.py --total-timesteps 50000

Needs, in a clone: pip install . numpy
"""

import argparse

import numpy as np

import rl_exporter
from rl_exporter.integrations.numpy import HeadMeter

BATCH = 512
parser = argparse.ArgumentParser()
parser.add_argument("--total-timesteps", type=int, default=50_000)
parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
options = parser.parse_args()
generator, weights = np.random.default_rng(1), np.zeros((5, 8))

with rl_exporter.serve({"gripper": 3, "arm": 5}, listen=options.listen, algorithm="REINFORCE") as heads:
    print(f"{heads.url}/metrics", flush=True)
    meter = HeadMeter(heads)
    for _ in range(options.total_timesteps // BATCH):
        observations = generator.standard_normal((BATCH, 5))
        logits = np.split(observations @ weights, [3], axis=1)
        policy = [np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in logits]
        actions = np.stack([(part + generator.gumbel(size=part.shape)).argmax(1) for part in logits], 1)
        rewards = (actions[:, 0] == observations[:, :3].argmax(1)) + (actions[:, 1] == observations.argmax(1))
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        taken = [np.eye(part.shape[1])[own] - part for part, own in zip(policy, actions.T, strict=True)]
        gradient = observations.T @ (advantages[:, None] * np.concatenate(taken, 1)) / BATCH
        meter.add(logits, actions=actions, advantages=advantages)
        meter.gradients(gradient, axis=-1)
        weights += gradient
        heads.record(**meter.result(), environment_steps=BATCH, episode_return=rewards.mean())

for name, head in heads.snapshot().tamiyo.readings.items():
    print(f"{name:8} {head.entropy:.3f} nats, {head.normalized:.3f} of its maximum: {head.level}")
