"""PPO (Schulman et al. 2017, arXiv:1707.06347) for a policy with several heads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_exporter.heads import Heads
from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums
from rl_exporter.integrations.meter.uploads import upload, upload_together
from rl_training.algorithm.advantages import AdvantageScale, generalized_advantages, moments
from rl_training.algorithm.gradients import GradientClipping, GradientNorms
from rl_training.algorithm.losses import (
    HeadWeights,
    Losses,
    Minibatch,
    Targets,
    divergence_from,
    ppo_losses,
)
from rl_training.config import PPOConfig
from rl_training.optimizer import Adam
from rl_training.policy.fragments import Fragments
from rl_training.policy.network import FactoredRecurrentActorCritic
from rl_training.policy.rollout import Rollout
from rl_training.ranks import SINGLE_PROCESS, Ranks
from rl_training.telemetry.measurement import OptimizerStep
from rl_training.telemetry.result import UpdateResult
from rl_training.telemetry.rollout_archive import RolloutArchive
from rl_training.telemetry.update import UpdateTelemetry

Indices = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class PPOAgent:
    """The policy, its optimiser, and the update.

    ``heads`` fixes names, sizes and entropy multipliers. Losses are sums over this rank's steps, divided by
    counts over all ``ranks``, so that the sum of the ranks' gradients is the gradient of one process.
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
        # The parameters depend on the seed alone, and torch's global generator stays as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = FactoredRecurrentActorCritic(
                observation_size,
                layout,
                config.hidden,
                shared_critic=config.critic == "shared",
                bfloat16=config.precision == "bfloat16",
            )
        self.network = network.to(self.device)
        # Listed once: a walk over the modules, after each minibatch, takes as long as an operation.
        self._parameters = list(self.network.parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=1e-5, fused=True)
        self._clipping = GradientClipping(self.network, config.max_gradient_norm)
        self.archive: RolloutArchive | None = None
        """Where the agent leaves each update for ``--record-rollouts``; None keeps nothing."""
        self._advantage_sums = AdvantageSums.none(layout.total)
        self._advantage_scale = AdvantageScale(self.device)
        # Its own generator, which a checkpoint can keep, and which nothing else draws from.
        self._shuffle = np.random.default_rng([seed, 1])
        multipliers = [head.entropy_multiplier for head in heads]
        self._multipliers = upload(np.asarray(multipliers, dtype=np.float32), self.device)
        self.entropy_coefficient = config.entropy_coefficient
        """Base of the entropy bonus in the next update."""
        self.learning_rate = config.learning_rate
        """Step size of the optimiser in the next update."""
        self._added = torch.zeros_like(self._multipliers)

    def add_entropy_coefficients(self, added: Mapping[str, float]) -> None:
        """Add to the entropy coefficient of each head, from the next update on; a head left out gets nothing.

        Every rank gets what rank 0 adds. Raises KeyError for an unknown head, and RankLostError.
        """
        unknown = added.keys() - set(self.heads.names)
        if unknown:
            raise KeyError(f"unknown heads {sorted(unknown)}; declared heads: {', '.join(self.heads.names)}")
        values = upload(np.array([added.get(n, 0.0) for n in self.heads.names], np.float32), self.device)
        self._ranks.broadcast([values])
        self._added = values

    def anneal(self, done: float) -> None:
        """Set learning rate and entropy coefficient for a run of which a share of ``done`` is over.

        Both fall on a line to 0 at the end of the run, unless the configuration keeps them constant.
        """
        config, left = self.config, {"linear": max(0.0, 1.0 - done), "constant": 1.0}
        self.entropy_coefficient = config.entropy_coefficient * left[config.entropy_schedule]
        self.learning_rate = config.learning_rate * left[config.learning_rate_schedule]
        self._apply_learning_rate()

    def state(self) -> dict[str, Any]:
        """Everything that an update changes, as a checkpoint keeps it."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "shuffle": json.dumps(self._shuffle.bit_generator.state),
            "advantage_sums": torch.stack(self._advantage_sums),
            "advantage_scale": self._advantage_scale.recent,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``, with the learning rate of the configuration rather than the saved one."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._apply_learning_rate()
        self._shuffle.bit_generator.state = json.loads(state["shuffle"])
        # Checkpoints of former versions lack them: margins and scale start anew.
        if "advantage_sums" in state:
            self._advantage_sums = AdvantageSums(*state["advantage_sums"].cpu())
        if "advantage_scale" in state:
            self._advantage_scale.recent = state["advantage_scale"].to(self.device)

    def _apply_learning_rate(self) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _update_network(self, rollout: Rollout) -> UpdateResult:
        """Optimise over one rollout for several epochs, until the KL divergence reaches its limit.

        A loss or gradient that is not finite skips its optimiser step and the rest of the update. The device
        decides this; the host learns of it, and of the KL divergence, once per epoch, because every question
        to the device makes the host wait. Raises RankLostError.
        """
        config, value = self.config, self.network.value
        units, advantage_scale = value.units(), self._advantage_scale.recent
        targets = self._targets(rollout)
        masks = rollout.evaluated_masks(self.network.layout)
        shares = upload(np.asarray(rollout.choice_share, dtype=np.float32), self.device)
        weights = HeadWeights(self.entropy_coefficient * self._multipliers + self._added, shares)
        broken = torch.zeros((), device=self.device)
        telemetry = UpdateTelemetry(
            self.network.layout,
            rollout,
            targets.advantages,
            config.clip,
            self._ranks,
            former=self._advantage_sums,
            enabled=config.telemetry,
        )
        nonfinite = False
        for epoch in range(config.epochs):
            kl_sum = torch.zeros((), device=self.device)
            for batch in self._minibatches(rollout, masks, targets):
                losses = ppo_losses(self.network, rollout, batch, weights, config)
                losses, norms = self._optimizer_step(losses, broken)
                kl_sum += losses.telemetry.kl_sum
                telemetry.add(OptimizerStep(losses.telemetry, norms.whole, norms.heads), losses.columns)
            # The KL divergence ends an update only between epochs, so that each epoch visits every step once
            # and its means are over the whole rollout.
            kl, bad = torch.stack([kl_sum / rollout.steps, broken]).tolist()
            nonfinite = bad > 0
            if nonfinite:
                # A reward that no loss can hold shows in the first epoch. Later returns are not measured by it.
                if not epoch:
                    value.restore(units)
                    self._advantage_scale.recent = advantage_scale
                break
            telemetry.end_epoch()
            if kl > config.target_kl:
                break
        if self.archive is not None:
            self.archive.keep(rollout, telemetry)
        kl_sum_after = partial(divergence_from, rollout, masks, self.network)
        result = telemetry.result(targets.explained_variance, kl_sum_after, nonfinite=nonfinite)
        self._advantage_sums = result.advantage_sums or self._advantage_sums
        return result

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
        # Normalized once for the rollout rather than in each minibatch: a step's weight does not depend on the
        # environments that share its minibatch.
        mean, variance = moments(torch.stack([advantages, returns]), rollout.steps, self._ranks)
        # With a value head on the trunk of the actor, nothing is in units of earlier rollouts.
        if self.network.shared_critic:
            scale = variance[0].sqrt()
        else:
            scale = self._advantage_scale.of(variance[0])
            self.network.value.rescale(mean[1], variance[1])
        normalized = (advantages - mean[0]) / (scale + 1e-8)
        return Targets(normalized, returns, 1 - variance[0] / variance[1])

    def _minibatches(self, rollout: Rollout, masks: Tensor, targets: Targets) -> Iterator[Minibatch]:
        """Yield this rank's part of each minibatch of one epoch."""
        steps, own = rollout.values.shape
        first = self._ranks.rank * own
        # Every rank shuffles all environments with the same generator and takes its own from each group.
        groups = minibatches(self._shuffle, own * self._ranks.size, self.config.minibatches)
        here = [group[(group >= first) & (group < first + own)] - first for group in groups]
        # Those of the whole epoch at once, so that a GPU does not wait for the host between minibatches.
        indices = upload_together(here, self.device)
        fragments = Fragments.of_each([rollout.starts[:, part] for part in here], self.device)
        for group, index, episodes in zip(groups, indices, fragments, strict=True):
            own_masks, advantages, returns = (
                part.index_select(1, index) for part in (masks, targets.advantages, targets.returns)
            )
            yield Minibatch(index, episodes, own_masks, advantages, returns, steps * len(group))

    def _optimizer_step(self, losses: Losses, broken: Tensor) -> tuple[Losses, GradientNorms]:
        """Take one optimiser step, unless something was not finite in this update; ``broken`` remembers it.

        Returns the losses of all ranks together, and the norms of their gradient before clipping.
        """
        for parameter in self._parameters:
            parameter.grad = None
        losses.total.backward()  # type: ignore[no-untyped-call] # torch
        losses = self._of_all_ranks(losses)
        # After the exchange, so that every rank agrees.
        norms = self._clipping.clip()
        finite = torch.isfinite(losses.total) & torch.isfinite(norms.whole)
        torch.maximum(broken, (~finite).float(), out=broken)
        # ``found_inf`` is how a GradScaler tells a fused optimiser to skip a step. The optimiser reads the
        # flag on the device and leaves parameters and moments alone, so the host need not wait to decide.
        self._optimizer.found_inf = broken  # type: ignore[attr-defined] # read by the fused kernel
        self._optimizer.step()
        return losses, norms

    def _of_all_ranks(self, losses: Losses) -> Losses:
        """Sum gradients and losses over the ranks, in one exchange."""
        if self._ranks.size == 1:
            return losses._replace(total=losses.total.detach())
        own = losses.telemetry
        scalars = torch.stack([losses.total.detach(), own.kl_sum, own.policy_loss, own.value_loss])
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self._ranks.all_reduce([*gradients, scalars])
        total, kl_sum, policy_loss, value_loss = scalars.unbind()
        telemetry = own._replace(kl_sum=kl_sum, policy_loss=policy_loss, value_loss=value_loss)
        return losses._replace(total=total, telemetry=telemetry)


def minibatches(shuffle: np.random.Generator, environments: int, parts: int) -> list[Indices]:
    """Spread the environments over ``parts`` minibatches at random; the number of ranks makes no difference.

    Of every ``parts`` neighbours, each goes to another minibatch. A rank whose environments are a multiple of
    ``parts`` therefore has an equal part of each minibatch, and the sizes differ by one at most.
    """
    parts = min(parts, environments)
    blocks = np.arange(-(-environments // parts) * parts).reshape(-1, parts)
    return [group[group < environments] for group in shuffle.permuted(blocks, axis=1).T]


def with_multipliers(heads: Heads, multipliers: Mapping[str, float]) -> Heads:
    """The heads with some entropy multipliers replaced. Raises ValueError for a head that does not exist."""
    for name, factor in multipliers.items():
        heads = heads.replaced(name, entropy_multiplier=factor)
    return heads
