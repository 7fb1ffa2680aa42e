"""What a head decided: state information, action shares, and whether the leading action paid.

The sums are those of ``rl_training.telemetry.preference`` and ``margin``, which the exporter must not import.
A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from rl_exporter.decisions import (
    DECAY,
    MINORIZE_STEPS,
    MINORIZE_STEPS_ALONE,
    NEWTON_CHOICES,
    NEWTON_STEPS,
    Information,
    Margin,
    margin,
    state_information,
)
from rl_exporter.integrations.meter.newton import (
    newton_step,
    newton_sums,
)


class Decisions(NamedTuple):
    """Sums over the choice steps of one head, on the host; ``probability`` and ``weights`` by action."""

    steps: float
    entropy: float
    log_normalizer: float
    probability: list[float]
    weights: list[float]

    @classmethod
    def unpacked(cls, row: list[float]) -> Decisions:
        """From the row of ``decision_row``."""
        choices = (len(row) - 3) // 2
        steps, entropy, log_normalizer = row[:3]
        return cls(steps, entropy, log_normalizer, row[3 : 3 + choices], row[3 + choices :])

    @property
    def action_shares(self) -> tuple[float, ...] | None:
        """Mean probability of each action; None without a choice step."""
        return tuple(total / self.steps for total in self.probability) if self.steps else None

    @property
    def state_information(self) -> Information:
        """Mean divergence from the best preference; see ``rl_exporter.decisions`` for where it is not known."""
        return state_information(self.probability, self.weights, self.entropy, self.log_normalizer, self.steps)


@torch.no_grad()
def decision_row(probabilities: Tensor, masks: Tensor | None, entropy: Tensor, exact: torch.dtype) -> Tensor:
    """The numbers of ``Decisions`` of one head in one row, from S steps: (S, n), (S, n) or None, and (S,)."""
    valid = torch.ones_like(probabilities, dtype=torch.bool) if masks is None else masks
    choosing = (valid.sum(1) >= 2) & torch.isfinite(entropy)
    # Where a step does not count, nothing is valid.
    counted = (valid & choosing.unsqueeze(1)).to(exact)
    kept = torch.where(counted > 0, probabilities.to(exact), 0.0)
    probability = kept.sum(0)
    weights = _preference(probability, counted)
    totals = torch.stack(
        [
            choosing.sum().to(exact),
            torch.where(choosing, entropy, 0.0).sum(dtype=exact),
            _normalizers(counted, weights).log().sum(),
        ]
    )
    return torch.cat([totals, probability, weights])


def _preference(probability: Tensor, counted: Tensor) -> Tensor:
    """The best weights (n,) for sums of probabilities (n,) and what is valid at the counted steps (S, n)."""
    weights = probability / counted.sum(0).clamp_min(1)
    tiny = torch.finfo(counted.dtype).tiny
    newton = len(weights) <= NEWTON_CHOICES
    for _ in range(MINORIZE_STEPS if newton else MINORIZE_STEPS_ALONE):
        shares = _normalizers(counted, weights).reciprocal()
        weights = probability / (shares @ counted).clamp_min(tiny)
    valid, own = counted.T.unsqueeze(0), probability.unsqueeze(0)
    for _ in range(NEWTON_STEPS if newton else 0):
        weights = newton_step(weights.unsqueeze(0), own, newton_sums(valid, weights.unsqueeze(0)))[0]
    return weights


def _normalizers(counted: Tensor, weights: Tensor) -> Tensor:
    """Weight of all valid actions of each step together; 1 where the step does not count."""
    total = counted @ weights
    return torch.where(total > 0, total, 1.0)


class AdvantageHistory:
    """Choice steps, advantages and their squares by sampled action, over all updates; older ones decay."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sums = [torch.zeros(3, choices, dtype=torch.float64) for choices in sizes]

    def add(self, buffer: RolloutBuffer) -> None:
        """A complete rollout, before the loss reorders it."""
        advantages = torch.as_tensor(buffer.advantages).double().flatten()
        normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        actions = torch.as_tensor(buffer.actions).reshape(len(advantages), -1).long()
        masks = getattr(buffer, "action_masks", None)
        sizes = [sums.shape[1] for sums in self._sums]
        valid = None
        if masks is not None:
            valid = torch.split(torch.as_tensor(masks).reshape(len(advantages), -1), sizes, 1)
        for head, choices in enumerate(sizes):
            counted = torch.isfinite(normalized) & (choices >= 2)
            if valid is not None:
                counted &= (valid[head] > 0).sum(1) >= 2
            chosen, paid = actions[counted, head], normalized[counted]
            powers = torch.ones_like(paid), paid, paid.square()
            new = torch.stack([torch.bincount(chosen, power, minlength=choices) for power in powers])
            self._sums[head] = DECAY * self._sums[head] + new

    def margin(self, head: int, leading: int) -> Margin:
        """The margin of a head whose leading action this is."""
        return margin(leading, *self._sums[head].tolist())
