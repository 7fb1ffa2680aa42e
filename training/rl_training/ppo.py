"""PPO for a policy with several heads (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_exporter.heads import Heads
from rl_training.advantages import explained_variance, generalized_advantages
from rl_training.config import PPOConfig
from rl_training.distributions import HeadLayout
from rl_training.network import FactoredRecurrentActorCritic
from rl_training.recording import RolloutRecorder
from rl_training.results import UpdateResult
from rl_training.rollout import Rollout
from rl_training.telemetry import MinibatchTelemetry, UpdateTelemetry


class Losses(NamedTuple):
    """Parts of one minibatch's loss, scalars, and what telemetry reads from it."""

    total: Tensor
    telemetry: MinibatchTelemetry


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Whole sequences of some environments, with advantages and returns (T, B)."""

    environments: Tensor
    host_environments: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    advantages: Tensor
    returns: Tensor


class PPOAgent:
    """The policy, its optimiser, and the update.

    ``heads`` fixes names, sizes and entropy multipliers.
    """

    def __init__(
        self,
        heads: Heads,
        observation_size: int,
        config: PPOConfig,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.heads = heads
        self.config = config
        self.device = torch.device(device)
        layout = HeadLayout(heads.names, [head.choices for head in heads], self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = FactoredRecurrentActorCritic(observation_size, layout, config.hidden).to(self.device)
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, eps=1e-5, fused=True
        )
        self.recorder: RolloutRecorder | None = None
        """Keeps the last update's logits when there is one."""
        self._shuffle = np.random.default_rng([seed, 1])
        multipliers = [head.entropy_multiplier for head in heads]
        self._coefficients = config.entropy_coefficient * torch.tensor(multipliers, device=self.device)

    def state(self) -> dict[str, Any]:
        """Everything that an update reads and writes, for a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "shuffle": json.dumps(self._shuffle.bit_generator.state),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``; the learning rate stays that of the configuration."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate
        self._shuffle.bit_generator.state = json.loads(state["shuffle"])

    def _update_network(self, rollout: Rollout) -> UpdateResult:
        """Several epochs over one rollout.

        A loss or gradient that is not finite skips its optimiser step and the rest of the update, decided
        on the device; the host learns of it, and of the KL divergence, once per epoch.
        """
        config = self.config
        advantages = generalized_advantages(
            rollout.rewards,
            rollout.values,
            rollout.next_values,
            rollout.ended,
            config.gamma,
            config.gae_lambda,
        )
        returns = advantages + rollout.values
        normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        shares = torch.tensor(rollout.choice_share, device=self.device)
        broken = torch.zeros((), device=self.device)
        telemetry = UpdateTelemetry(self.network.layout, rollout, config.clip, enabled=config.telemetry)
        nonfinite = False
        for _ in range(config.epochs):
            kl_sum = torch.zeros((), device=self.device)
            for environments in self._minibatches(rollout.values.shape[1]):
                index = torch.as_tensor(environments, device=self.device)
                batch = Minibatch(index, environments, normalized[:, index], returns[:, index])
                losses = self._losses(rollout, batch, shares)
                norms = self._optimizer_step(losses.total, broken)
                kl_sum += losses.telemetry.kl_sum
                telemetry.add(losses.telemetry, *norms)
            kl, bad = torch.stack([kl_sum / rollout.steps, broken]).tolist()
            nonfinite = bad > 0
            if nonfinite:
                break
            telemetry.end_epoch()
            if kl > config.target_kl:
                break
        if self.recorder is not None:
            self.recorder.keep(rollout, telemetry)
        return telemetry.result(explained_variance(rollout.values, returns), nonfinite=nonfinite)

    def _minibatches(self, environments: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
        order = self._shuffle.permutation(environments)
        return np.array_split(order, min(self.config.minibatches, environments))

    def _optimizer_step(self, loss: Tensor, broken: Tensor) -> tuple[Tensor, Tensor | None]:
        """Step unless something was not finite; ``broken`` remembers it.

        Returns the norm of the whole gradient and, for telemetry, those of the heads, both before clipping.
        """
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        head_norms = self.network.heads.gradient_norms() if self.config.telemetry else None
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        torch.maximum(broken, (~finite).float(), out=broken)
        # The fused optimiser reads this flag on the device and leaves parameters and moments alone.
        self._optimizer.found_inf = broken  # type: ignore[attr-defined]
        self._optimizer.step()
        return norm, head_norms

    def _losses(self, rollout: Rollout, batch: Minibatch, shares: Tensor) -> Losses:
        """Clipped surrogates and entropy bonuses per head over its choice steps, and the value loss."""
        config, index = self.config, batch.environments
        evaluation = self.network.evaluate_actions(
            rollout.observations[:, index],
            rollout.actions[:, index],
            rollout.decision_masks[:, index],
            rollout.starts[:, batch.host_environments],
            (rollout.state[0][index], rollout.state[1][index]),
        )
        choice = rollout.choice[:, index]
        steps = batch.advantages.numel()
        denominators = (shares * steps).clamp_min(1.0)
        log_ratio = (evaluation.log_probs - rollout.log_probs[:, index]).masked_fill(~choice, 0.0)
        ratio = log_ratio.exp()
        advantage = batch.advantages.unsqueeze(-1)
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage) * choice
        entropy = evaluation.distribution.entropy
        policy_loss = -(surrogate.sum((0, 1)) / denominators).sum()
        bonus = (self._coefficients * (entropy * choice).sum((0, 1)) / denominators).sum()
        value_loss = 0.5 * (evaluation.values - batch.returns).square().mean()
        total = policy_loss - bonus + config.value_coefficient * value_loss
        with torch.no_grad():
            joint = log_ratio.sum(-1)
            telemetry = MinibatchTelemetry(
                environments=index,
                logits=evaluation.logits.detach(),
                entropy=entropy.detach(),
                peak=evaluation.distribution.peak,
                ratio=ratio.detach(),
                kl_sum=(joint.exp() - 1 - joint).sum(),
                policy_loss=policy_loss.detach(),
                value_loss=value_loss.detach(),
            )
        return Losses(total, telemetry)


def with_multipliers(heads: Heads, multipliers: Mapping[str, float]) -> Heads:
    """The heads with some entropy multipliers replaced; ValueError for a head that does not exist."""

    for name in multipliers:
        heads.named(name)
    return Heads(
        [
            replace(head, entropy_multiplier=multipliers.get(head.name, head.entropy_multiplier))
            for head in heads
        ]
    )
