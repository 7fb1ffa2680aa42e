"""One policy listened to from update to update: what its taps hear goes into the meter."""

from __future__ import annotations

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.meter.meter_result import MeterResult
from rl_exporter.integrations.sb3.policy import action_layer, head_logits, head_masks
from rl_exporter.integrations.sb3.taps import EntropyTap, GradientTap


class PolicyListener:
    """Listens to a model's policy from ``begin_update`` to ``end_update``, until ``stop``."""

    def __init__(self, model: OnPolicyAlgorithm, meter: HeadMeter, guard: ErrorGuard) -> None:
        self._model = model
        self._meter = meter
        self._distribution = model.policy.action_dist
        self._entropy = EntropyTap(self._distribution, guard)
        self._layer = action_layer(model, meter.heads)
        self._gradient = None if self._layer is None else GradientTap(self._layer, guard)

    def begin_update(self) -> None:
        """The rollout is complete; the loss is evaluated next."""
        buffer = self._model.rollout_buffer
        self._meter.epoch_steps = buffer.buffer_size * buffer.n_envs
        self._entropy.listener = self._hear
        if self._gradient is not None:
            self._gradient.listener = self._hear_gradients
        # Last, so that an error in it costs nothing but the margins.
        self._add_advantages(buffer)

    def end_update(self) -> MeterResult:
        """What the update measured of each head."""
        self._silence()
        return self._meter.measured()

    def stop(self) -> None:
        """Leave the policy as it was found."""
        self._silence()
        self._entropy.remove()
        if self._gradient is not None:
            self._gradient.remove()

    def _hear(self) -> None:
        self._meter.add(head_logits(self._distribution), head_masks(self._distribution))

    def _hear_gradients(self) -> None:
        assert self._layer is not None, "only a tap on the layer calls this"
        self._meter.gradients(self._layer)

    def _add_advantages(self, buffer: RolloutBuffer) -> None:
        """The sampled actions of the rollout and what they paid, before the loss reorders them."""
        advantages = torch.as_tensor(buffer.advantages).double().flatten()
        normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        actions = torch.as_tensor(buffer.actions).reshape(len(advantages), -1)
        masks = getattr(buffer, "action_masks", None)
        allowed = None if masks is None else torch.as_tensor(masks).reshape(len(advantages), -1) > 0
        self._meter.add_rollout(actions, normalized, allowed)

    def _silence(self) -> None:
        self._entropy.listener = None
        if self._gradient is not None:
            self._gradient.listener = None
