"""PPO with action masks in one file, in the style of CleanRL, with the exporter added in four places.

    python examples/cleanrl_style.py --total-timesteps 50000
    curl http://127.0.0.1:28008/metrics | grep rl_policy_head

Needs, in a clone: pip install . torch gymnasium
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Categorical

import rl_exporter
from picking import Picking
from rl_exporter.integrations.torch import HeadMeter

ENVS, STEPS, EPOCHS, MINIBATCHES = 8, 128, 4, 4
GAMMA, GAE_LAMBDA, CLIP = 0.99, 0.95, 0.2
ENTROPY_COEFFICIENT, VALUE_COEFFICIENT, MAX_GRADIENT_NORM = 0.01, 0.5, 0.5
Seen = tuple[Tensor, Tensor]


class Agent(nn.Module):
    """Actor and critic. The actor's logits are one row, split into heads."""

    def __init__(self, observations: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.critic = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, sum(sizes)))

    def forward(self, observations: Tensor, masks: Tensor) -> tuple[list[Categorical], Tensor]:
        """The distribution of each head under its mask, and the value (B,)."""
        logits = self.actor(observations).masked_fill(~masks, -1e8).split(self.sizes, 1)
        return [Categorical(logits=part) for part in logits], self.critic(observations).squeeze(1)


def log_probability(heads: list[Categorical], actions: Tensor) -> Tensor:
    """Of each head's action, (B, H)."""
    return torch.stack([head.log_prob(actions[:, i]) for i, head in enumerate(heads)], 1)


class Rollout(NamedTuple):
    """STEPS steps of ENVS environments. Each field has shape (T, N, ...)."""

    observations: Tensor
    masks: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    dones: Tensor


def observed(envs: VectorEnv, observations: np.ndarray) -> Seen:
    """Observations (N, O) and masks (N, Σn)."""
    return torch.as_tensor(observations), torch.as_tensor(np.stack(envs.unwrapped.call("action_masks")))


@torch.no_grad()
def collect(agent: Agent, envs: VectorEnv, seen: Seen) -> tuple[Rollout, Seen]:
    """Let the agent act for STEPS steps. Returns the rollout, and what it sees at its end."""
    steps = []
    for _ in range(STEPS):
        heads, value = agent(*seen)
        actions = torch.stack([head.sample() for head in heads], 1)
        following, reward, terminated, truncated, _ = envs.step(actions.numpy())
        rewards, dones = torch.as_tensor(reward).float(), torch.as_tensor(terminated | truncated).float()
        steps.append((*seen, actions, log_probability(heads, actions), value, rewards, dones))
        seen = observed(envs, following)
    return Rollout(*map(torch.stack, zip(*steps, strict=True))), seen


@torch.no_grad()
def estimate_advantages(rollout: Rollout, next_value: Tensor) -> Tensor:
    """Generalized advantage estimation, (T, N). Treats a truncated episode as terminated, for brevity."""
    advantages, last = torch.zeros(STEPS, ENVS), torch.zeros(ENVS)
    for t in reversed(range(STEPS)):
        goes_on = 1 - rollout.dones[t]
        delta = rollout.rewards[t] + GAMMA * next_value * goes_on - rollout.values[t]
        advantages[t] = last = delta + GAMMA * GAE_LAMBDA * goes_on * last
        next_value = rollout.values[t]
    return advantages


def update(
    agent: Agent, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: Tensor, meter: HeadMeter
) -> Tensor:
    """Run EPOCHS epochs. Returns means of policy loss, value loss, KL divergence and gradient norm, (4,)."""
    known = torch.zeros(4)
    flat = Rollout(*(part.flatten(0, 1) for part in rollout))
    returns, advantages = (advantages + rollout.values).flatten(), advantages.flatten()
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    for _ in range(EPOCHS):
        for batch in torch.randperm(STEPS * ENVS).chunk(MINIBATCHES):
            actions, advantage, old = flat.actions[batch], advantages[batch], flat.log_probs[batch]
            heads, value = agent(flat.observations[batch], flat.masks[batch])
            new = log_probability(heads, actions)
            meter.add(heads, actions=actions, advantages=advantage, log_probs=new, old_log_probs=old)
            ratio = (new - old).sum(1).exp()
            policy_loss = -torch.min(advantage * ratio, advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            value_loss = 0.5 * (value - returns[batch]).square().mean()
            bonus = ENTROPY_COEFFICIENT * sum(head.entropy().mean() for head in heads)
            optimizer.zero_grad()
            (policy_loss - bonus + VALUE_COEFFICIENT * value_loss).backward()
            meter.gradients(agent.actor[-1])
            norm = nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            known += torch.stack([policy_loss, value_loss, (ratio - 1 - ratio.log()).mean(), norm]).detach()
        meter.end_epoch()
    return known / (EPOCHS * MINIBATCHES)


def train(recorder: rl_exporter.HeadRecorder, envs: RecordEpisodeStatistics, total_timesteps: int) -> None:
    """Collect, optimize, record."""
    agent = Agent(envs.single_observation_space.shape[0], [head.choices for head in recorder.heads])
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-3, eps=1e-5)
    meter = HeadMeter(recorder, clip=CLIP)
    seen = observed(envs, envs.reset(seed=1)[0])
    for _ in range(max(1, total_timesteps // (STEPS * ENVS))):
        episodes, started = envs.episode_count, time.perf_counter()
        rollout, seen = collect(agent, envs, seen)
        collected = time.perf_counter()
        advantages = estimate_advantages(rollout, agent(*seen)[1])
        policy_loss, value_loss, kl, norm = update(agent, optimizer, rollout, advantages, meter).tolist()
        recorder.record(
            **meter.result(),
            policy_loss=policy_loss,
            value_loss=value_loss,
            kl_divergence=kl,
            gradient_norm=norm,
            environment_steps=STEPS * ENVS,
            episodes=envs.episode_count - episodes,
            episode_return=np.mean(envs.return_queue) if envs.return_queue else None,
            entropy_coefficient=ENTROPY_COEFFICIENT,
            rollout_duration=collected - started,
            update_duration=time.perf_counter() - collected,
        )


def main() -> None:
    """Train, and print each head's final entropy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--total-timesteps", type=int, default=50_000)
    parser.add_argument("--listen", default="127.0.0.1:28008", help="HOST:PORT of /metrics; port 0: a free one")
    parser.add_argument("--run-id", help="name of the run; generated when left out")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # the network is small: more threads only wait for each other
    torch.manual_seed(1)
    envs = RecordEpisodeStatistics(SyncVectorEnv([Picking] * ENVS, autoreset_mode=AutoresetMode.SAME_STEP))
    sizes = dict(zip(Picking.head_names, envs.single_action_space.nvec.tolist(), strict=True))

    # The end of the block reports how the run ended: completed, interrupted by Ctrl-C, or failed.
    with rl_exporter.serve(
        sizes, run_id=arguments.run_id, listen=arguments.listen, algorithm="PPO", environment="Picking", seed=1
    ) as recorder:
        print(f"run {recorder.snapshot().run.run_id}: {recorder.url}/metrics", flush=True)
        train(recorder, envs, arguments.total_timesteps)

    for name, head in recorder.snapshot().tamiyo.readings.items():
        print(f"{name:8} {head.entropy:.3f} nats, {head.effective:.3f} where it decides: {head.level}")


if __name__ == "__main__":
    main()
