"""One policy listened to from update to update: what its taps hear goes into that update's telemetry."""

from __future__ import annotations

from dataclasses import replace

from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from rl_exporter.heads import Heads
from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.sb3.decisions import AdvantageHistory
from rl_exporter.integrations.sb3.policy import action_layer
from rl_exporter.integrations.sb3.sums import MeasuredHead, UpdateAccumulator
from rl_exporter.integrations.sb3.taps import EntropyTap, GradientTap


class PolicyListener:
    """Listens to a model's policy from ``begin_update`` to ``end_update``, until ``stop``."""

    def __init__(
        self, model: OnPolicyAlgorithm, heads: Heads, advantages: AdvantageHistory, guard: ErrorGuard
    ) -> None:
        self._model = model
        self._advantages = advantages
        self._sizes = [head.choices for head in heads]
        self._entropy = EntropyTap(model.policy.action_dist, guard)
        layer = action_layer(model, sum(self._sizes))
        self._gradient = None if layer is None else GradientTap(layer, guard)

    def begin_update(self) -> None:
        """The rollout is complete; the loss is evaluated next."""
        buffer = self._model.rollout_buffer
        accumulator = UpdateAccumulator(self._sizes, buffer.buffer_size * buffer.n_envs)
        self._accumulator = accumulator
        self._entropy.listener = accumulator.add
        if self._gradient is not None:
            self._gradient.listening = True
        # Last, so that an error in it costs nothing but the margins.
        self._advantages.add(buffer)

    def end_update(self) -> list[MeasuredHead]:
        """What the update measured of each head, in order; empty when it evaluated no loss."""
        self._silence()
        found = self._accumulator.result(None if self._gradient is None else self._gradient.take())
        return [self._with_margin(head, measured) for head, measured in enumerate(found)]

    def _with_margin(self, head: int, measured: MeasuredHead) -> MeasuredHead:
        shares = measured.measurement.action_shares
        if shares is None:
            return measured
        margin, t = self._advantages.margin(head, shares.index(max(shares)))
        measurement = replace(measured.measurement, advantage_margin=margin, advantage_margin_t=t)
        return measured._replace(measurement=measurement)

    def stop(self) -> None:
        """Leave the policy as it was found."""
        self._silence()
        self._entropy.remove()
        if self._gradient is not None:
            self._gradient.remove()

    def _silence(self) -> None:
        self._entropy.listener = None
        if self._gradient is not None:
            self._gradient.listening = False
