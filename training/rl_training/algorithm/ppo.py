"""PPO for a policy with several heads (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_exporter.heads import Heads
from rl_training.algorithm.advantages import generalized_advantages, moments
from rl_training.config import PPOConfig
from rl_training.policy.distributions import HeadLayout
from rl_training.policy.network import FactoredRecurrentActorCritic
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks
from rl_training.telemetry.measurement import MinibatchTelemetry
from rl_training.telemetry.result import UpdateResult
from rl_training.telemetry.rollout_archive import RolloutArchive
from rl_training.telemetry.update import UpdateTelemetry

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Losses(NamedTuple):
    """One minibatch's loss, a scalar, and what telemetry reads from it."""

    total: Tensor
    telemetry: MinibatchTelemetry


class Targets(NamedTuple):
    """What a rollout is to teach: normalized advantages and returns (T, N), and the share of their variance
    that the values explain, a scalar, NaN when the returns do not vary."""

    advantages: Tensor
    returns: Tensor
    explained_variance: Tensor


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Whole sequences of some environments of this rank, with advantages and returns (T, B).

    ``steps``: those of the whole minibatch, on all ranks.
    """

    environments: Tensor
    host_environments: Indices
    advantages: Tensor
    returns: Tensor
    steps: int


class PPOAgent:
    """The policy, its optimiser, and the update.

    ``heads`` fixes names, sizes and entropy multipliers. Losses are sums over steps, divided by counts over all
    ``ranks``, so that the sum of the ranks' gradients is the gradient of one process.
    """

    def __init__(
        self,
        heads: Heads,
        observation_size: int,
        config: PPOConfig,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = SINGLE_PROCESS,
    ) -> None:
        self._ranks = ranks
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
        self.archive: RolloutArchive | None = None
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
        targets = self._targets(rollout)
        shares = torch.tensor(rollout.choice_share, device=self.device)
        broken = torch.zeros((), device=self.device)
        telemetry = UpdateTelemetry(
            self.network.layout, rollout, config.clip, self._ranks, enabled=config.telemetry
        )
        nonfinite = False
        for _ in range(config.epochs):
            kl_sum = torch.zeros((), device=self.device)
            for batch in self._minibatches(rollout, targets):
                losses, norm, head_norms = self._optimizer_step(self._losses(rollout, batch, shares), broken)
                kl_sum += losses.telemetry.kl_sum
                telemetry.add(losses.telemetry, norm, head_norms)
            kl, bad = torch.stack([kl_sum / rollout.steps, broken]).tolist()
            nonfinite = bad > 0
            if nonfinite:
                break
            telemetry.end_epoch()
            if kl > config.target_kl:
                break
        if self.archive is not None:
            self.archive.keep(rollout, telemetry)
        return telemetry.result(targets.explained_variance, nonfinite=nonfinite)

    def _targets(self, rollout: Rollout) -> Targets:
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
        mean, variance = moments(torch.stack([advantages, returns]), rollout.steps, self._ranks)
        normalized = (advantages - mean[0]) / (variance[0].sqrt() + 1e-8)
        return Targets(normalized, returns, 1 - variance[0] / variance[1])

    def _minibatches(self, rollout: Rollout, targets: Targets) -> Iterator[Minibatch]:
        """This rank's part of each minibatch of an epoch."""
        steps, own = rollout.values.shape
        first = self._ranks.rank * own
        for group in minibatches(self._shuffle, own * self._ranks.size, self.config.minibatches):
            here = group[(group >= first) & (group < first + own)] - first
            index = torch.as_tensor(here, device=self.device)
            yield Minibatch(
                index, here, targets.advantages[:, index], targets.returns[:, index], steps * len(group)
            )

    def _optimizer_step(self, losses: Losses, broken: Tensor) -> tuple[Losses, Tensor, Tensor | None]:
        """Step unless something was not finite; ``broken`` remembers it.

        Returns the losses of all ranks together, the norm of the whole gradient and, for telemetry, those of
        the heads, both before clipping.
        """
        self._optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        losses = self._of_all_ranks(losses)
        head_norms = self.network.heads.gradient_norms() if self.config.telemetry else None
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_gradient_norm)
        finite = torch.isfinite(losses.total) & torch.isfinite(norm)
        torch.maximum(broken, (~finite).float(), out=broken)
        # The fused optimiser reads this flag on the device and leaves parameters and moments alone.
        self._optimizer.found_inf = broken  # type: ignore[attr-defined]
        self._optimizer.step()
        return losses, norm, head_norms

    def _of_all_ranks(self, losses: Losses) -> Losses:
        """Add up gradients and losses over the ranks, in one exchange."""
        own = losses.telemetry
        scalars = torch.stack([losses.total.detach(), own.kl_sum, own.policy_loss, own.value_loss])
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self._ranks.add([*gradients, scalars])
        total, kl_sum, policy_loss, value_loss = scalars.unbind()
        return Losses(total, own._replace(kl_sum=kl_sum, policy_loss=policy_loss, value_loss=value_loss))

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
        denominators = (shares * batch.steps).clamp_min(1.0)
        log_ratio = (evaluation.log_probs - rollout.log_probs[:, index]).masked_fill(~choice, 0.0)
        ratio = log_ratio.exp()
        advantage = batch.advantages.unsqueeze(-1)
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        surrogate = torch.minimum(ratio * advantage, clipped * advantage) * choice
        entropy = evaluation.distribution.entropy
        policy_loss = -(surrogate.sum((0, 1)) / denominators).sum()
        bonus = (self._coefficients * (entropy * choice).sum((0, 1)) / denominators).sum()
        value_loss = 0.5 * (evaluation.values - batch.returns).square().sum() / batch.steps
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


def minibatches(shuffle: np.random.Generator, environments: int, parts: int) -> list[Indices]:
    """Spread the environments over ``parts`` minibatches at random, the same whatever the number of ranks.

    Of every ``parts`` neighbours each goes to another minibatch. So each rank whose environments are a multiple
    of ``parts`` has an equal part of each minibatch, and the sizes differ by one at most.
    """
    parts = min(parts, environments)
    blocks = np.arange(-(-environments // parts) * parts).reshape(-1, parts)
    return [group[group < environments] for group in shuffle.permuted(blocks, axis=1).T]


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
