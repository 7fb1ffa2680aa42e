"""What a head decided: state information, action shares, and whether the leading action paid.

The arithmetic is that of ``rl_training.telemetry.preference`` and ``margin``, which the exporter must not
import. A test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

ITERATIONS = 10
"""Minorize-maximize steps (Hunter 2004, "MM algorithms for generalized Bradley-Terry models")."""

STEPS_PER_ACTION = 4
"""With fewer choice steps for each action, the n fitted weights alone could make a head read as blind."""

DECAY = 0.95
"""What an update leaves of the advantage sums of those before it."""


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
    def state_information(self) -> float | None:
        """Mean divergence from the best preference in nats; None where the steps are too few."""
        if self.steps < STEPS_PER_ACTION * len(self.weights):
            return None
        pairs = zip(self.probability, self.weights, strict=True)
        cross = math.fsum(p * math.log(w) for p, w in pairs if p > 0 and w > 0)
        return max(0.0, (self.log_normalizer - self.entropy - cross) / self.steps)


@torch.no_grad()
def decision_row(probabilities: Tensor, masks: Tensor | None, entropy: Tensor, exact: torch.dtype) -> Tensor:
    """The numbers of ``Decisions`` of one head in one row, from S steps: (S, n), (S, n) or None, and (S,)."""
    valid = torch.ones_like(probabilities, dtype=torch.bool) if masks is None else masks
    choosing = (valid.sum(1) >= 2) & torch.isfinite(entropy)
    # Where a step does not count, nothing is valid.
    counted = (valid & choosing.unsqueeze(1)).to(exact)
    kept = torch.where(counted > 0, probabilities.to(exact), 0.0)
    probability = kept.sum(0)
    weights = probability / counted.sum(0).clamp_min(1)
    tiny = torch.finfo(exact).tiny
    for _ in range(ITERATIONS):
        shares = _normalizers(counted, weights).reciprocal()
        weights = probability / (shares @ counted).clamp_min(tiny)
    totals = torch.stack(
        [
            choosing.sum().to(exact),
            torch.where(choosing, entropy, 0.0).sum(dtype=exact),
            _normalizers(counted, weights).log().sum(),
        ]
    )
    return torch.cat([totals, probability, weights])


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

    def margin(self, head: int, leading: int) -> tuple[float | None, float | None]:
        """Mean advantage of the leading action less that of the others, and Welch's t; None: not known."""
        own = self._sums[head][:, leading]
        kinds = own.tolist(), (self._sums[head].sum(1) - own).tolist()
        if min(steps for steps, *_ in kinds) < 2:
            return None, None
        (mean, error), (other_mean, other_error) = (_mean_and_error(*sums) for sums in kinds)
        difference, spread = mean - other_mean, math.sqrt(error + other_error)
        return difference, difference / spread if spread > 0 else None


def _mean_and_error(steps: float, total: float, squares: float) -> tuple[float, float]:
    """The mean, and its squared standard error with the unbiased variance."""
    mean = total / steps
    deviations = squares - total * mean
    # What rounding leaves of advantages that are all the same is no spread.
    return mean, deviations / (steps - 1) / steps if deviations > 1e-12 * squares else 0.0
