"""PPO in one file, in the style of CleanRL, with the exporter added: ``serve``, and ``record`` once per update.

    python examples/cleanrl_style.py --total-timesteps 50000
    curl http://127.0.0.1:28008/metrics | grep rl_policy_head

Needs, in a clone: pip install . torch gymnasium
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn
from torch.distributions import Categorical

import rl_exporter
from picking import Picking

ENVS, STEPS, EPOCHS, MINIBATCHES = 8, 128, 4, 4
GAMMA, GAE_LAMBDA, CLIP = 0.99, 0.95, 0.2
ENTROPY_COEFFICIENT, VALUE_COEFFICIENT, MAX_GRADIENT_NORM = 0.01, 0.5, 0.5


class Agent(nn.Module):
    """Actor and critic. The actor's logits are one row, split into heads."""

    def __init__(self, observations: int, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.critic = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, sum(sizes)))

    def forward(
        self, observations: torch.Tensor, actions: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions (B, H), log-probability (B,), entropy of each head in nats (B, H), value (B,)."""
        heads = [Categorical(logits=part) for part in self.actor(observations).split(self.sizes, dim=1)]
        if actions is None:
            actions = torch.stack([head.sample() for head in heads], 1)
        log_prob = torch.stack([head.log_prob(actions[:, i]) for i, head in enumerate(heads)], 1).sum(1)
        entropies = torch.stack([head.entropy() for head in heads], 1)
        return actions, log_prob, entropies, self.critic(observations).squeeze(1)


class Rollout(NamedTuple):
    """STEPS steps of ENVS environments. Each field has shape (T, N, ...)."""

    observations: torch.Tensor
    actions: torch.Tensor
    log_probs: torch.Tensor
    rewards: torch.Tensor
    dones: torch.Tensor
    values: torch.Tensor


class Games:
    """The environments, with their last observation and the returns of finished episodes."""

    def __init__(self, envs: SyncVectorEnv) -> None:
        self.envs = envs
        self.observation = torch.as_tensor(envs.reset(seed=1)[0])
        self.episodes = 0
        self.finished: deque[float] = deque(maxlen=100)
        self._returns = np.zeros(ENVS)

    @torch.no_grad()
    def collect(self, agent: Agent) -> Rollout:
        """Let the agent act for STEPS steps."""
        steps = []
        for _ in range(STEPS):
            observation = self.observation
            actions, log_prob, _, value = agent(observation)
            following, reward, terminated, truncated, _ = self.envs.step(actions.numpy())
            done = terminated | truncated
            self._returns += reward
            self.finished.extend(self._returns[done])
            self._returns[done] = 0.0
            self.episodes += int(done.sum())
            self.observation = torch.as_tensor(following)
            rewards, dones = torch.as_tensor(reward).float(), torch.as_tensor(done).float()
            steps.append((observation, actions, log_prob, rewards, dones, value))
        return Rollout(*map(torch.stack, zip(*steps, strict=True)))


@torch.no_grad()
def estimate_advantages(rollout: Rollout, next_value: torch.Tensor) -> torch.Tensor:
    """Generalized advantage estimation, (T, N). Treats a truncated episode as terminated, for brevity."""
    advantages, last = torch.zeros(STEPS, ENVS), torch.zeros(ENVS)
    for t in reversed(range(STEPS)):
        goes_on = 1 - rollout.dones[t]
        delta = rollout.rewards[t] + GAMMA * next_value * goes_on - rollout.values[t]
        advantages[t] = last = delta + GAMMA * GAE_LAMBDA * goes_on * last
        next_value = rollout.values[t]
    return advantages


def update(
    agent: Agent, optimizer: torch.optim.Optimizer, rollout: Rollout, advantages: torch.Tensor
) -> list[float]:
    """Run EPOCHS epochs. Returns KL, gradient norm and losses of the last one, then each head's entropy."""
    flat = Rollout(*(part.flatten(0, 1) for part in rollout))
    returns, advantages = (advantages + rollout.values).flatten(), advantages.flatten()
    entropy_sum = torch.zeros(len(agent.sizes))
    for _ in range(EPOCHS):
        known = torch.zeros(4)
        for batch in torch.randperm(STEPS * ENVS).chunk(MINIBATCHES):
            _, log_prob, entropies, value = agent(flat.observations[batch], flat.actions[batch])
            log_ratio = log_prob - flat.log_probs[batch]
            ratio = log_ratio.exp()
            advantage = advantages[batch]
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy_loss = -torch.min(advantage * ratio, advantage * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
            value_loss = 0.5 * (value - returns[batch]).square().mean()
            bonus = ENTROPY_COEFFICIENT * entropies.sum(1).mean()
            optimizer.zero_grad()
            (policy_loss - bonus + VALUE_COEFFICIENT * value_loss).backward()
            norm = nn.utils.clip_grad_norm_(agent.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            # Telemetry stays on the device. A sum over steps, because minibatches of unequal size would bias a
            # mean of means.
            entropy_sum += entropies.detach().sum(0)
            kl = (ratio - 1 - log_ratio).mean()
            known += torch.stack([kl, norm, policy_loss, value_loss]).detach() / MINIBATCHES
    return torch.cat([known, entropy_sum / (EPOCHS * STEPS * ENVS)]).tolist()  # one transfer per update


def train(heads: rl_exporter.HeadRecorder, envs: SyncVectorEnv, total_timesteps: int) -> None:
    """Collect, optimize, record."""
    agent = Agent(envs.single_observation_space.shape[0], [int(n) for n in envs.single_action_space.nvec])
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-3, eps=1e-5)
    games = Games(envs)
    for _ in range(max(1, total_timesteps // (STEPS * ENVS))):
        episodes, started = games.episodes, time.perf_counter()
        rollout = games.collect(agent)
        collected = time.perf_counter()
        advantages = estimate_advantages(rollout, agent(games.observation)[3])
        kl, norm, policy_loss, value_loss, *entropies = update(agent, optimizer, rollout, advantages)
        heads.record(
            entropy=dict(zip(Picking.head_names, entropies, strict=True)),
            environment_steps=STEPS * ENVS,
            episodes=games.episodes - episodes,
            episode_return=np.mean(games.finished) if games.finished else None,
            entropy_coefficient=ENTROPY_COEFFICIENT,
            kl_divergence=kl,
            gradient_norm=norm,
            policy_loss=policy_loss,
            value_loss=value_loss,
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
    envs = SyncVectorEnv([Picking] * ENVS, autoreset_mode=AutoresetMode.SAME_STEP)
    sizes = dict(zip(Picking.head_names, envs.single_action_space.nvec.tolist(), strict=True))

    # The end of the block reports how the run ended: completed, interrupted by Ctrl-C, or failed with an
    # exception.
    with rl_exporter.serve(
        sizes, run_id=arguments.run_id, listen=arguments.listen, algorithm="PPO", environment="Picking", seed=1
    ) as heads:
        print(f"run {heads.snapshot().run.run_id}: {heads.url}/metrics", flush=True)
        train(heads, envs, arguments.total_timesteps)

    for name, head in heads.snapshot().tamiyo.readings.items():
        print(f"{name:8} {head.entropy:.3f} nats, {head.normalized:.3f} of its maximum: {head.level}")


if __name__ == "__main__":
    main()
