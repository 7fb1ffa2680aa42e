"""Agents on small environments, for the tests of PPO and of its telemetry."""

from dataclasses import replace

import torch

from rl_training.algorithm.collector import RolloutCollector, StepMasks, dependent_heads
from rl_training.algorithm.ppo import PPOAgent
from rl_training.config import PPOConfig
from rl_training.environments.adapter import make_environment


def setup(name="heads", seed=0, envs=8, arguments=None, **config):
    env = make_environment(name, envs, arguments or {})
    agent = PPOAgent(env.heads, env.observation_size, PPOConfig(**{"rollout_steps": 64, **config}), seed=seed)
    return env, agent, RolloutCollector(env, agent.network, seed=seed, device=agent.device)


def evaluate(agent, rollout, starts=None, masks=None):
    with torch.no_grad():
        return agent.network.evaluate_actions(
            rollout.observations,
            rollout.actions,
            rollout.decision_masks if masks is None else masks,
            rollout.starts if starts is None else starts,
            rollout.state,
        )


def poison(rollout, value):
    rewards = rollout.rewards.clone()
    rewards[3, 1] = value
    return replace(rollout, rewards=rewards)


def narrowed(rollout, layout, head):
    """The rollout of an environment whose operations leave ``head`` one action less than its step mask."""
    decision, own = rollout.decision_masks.clone(), layout.slices[head]
    sampled = torch.zeros_like(decision[..., own]).scatter_(-1, rollout.actions[..., [head]], value=True)
    others = decision[..., own] & ~sampled
    spared = rollout.choice[..., head] & (others.sum(-1) >= 2)
    first = torch.zeros_like(others).scatter_(-1, others.int().argmax(-1, keepdim=True), value=True)
    decision[..., own] &= ~(first & spared.unsqueeze(-1))
    masks = [mask.numpy() for mask in (decision, rollout.step_masks, rollout.choice)]
    return replace(
        rollout,
        decision_masks=decision,
        log_valid_choices=torch.tensor(layout.counts(masks[0])).log(),
        dependent_heads=dependent_heads(StepMasks(*masks, masks[2]), layout),
    )
