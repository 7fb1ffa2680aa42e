"""What one update measured, on the host: the numbers of the heads, and those of the whole policy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_exporter.integrations.meter.margin import AdvantageSums
from rl_exporter.integrations.meter.result import HeadResults, head_results
from rl_exporter.integrations.meter.sums import FloatArray, UpdateSums
from rl_exporter.numbers import PolicyNumbers
from rl_training.policy.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class UpdateResult(HeadResults, PolicyNumbers):
    """What one update measured."""

    nonfinite: bool = False
    """PPO skipped an optimiser step because a loss or gradient was not finite."""
    error: Exception | None = None
    """What went wrong inside telemetry; every number is then absent."""


def divide(
    sums: UpdateSums[FloatArray],
    layout: HeadLayout,
    rollout: Rollout,
    former: AdvantageSums,
    *,
    nonfinite: bool,
) -> UpdateResult:
    """The means of one update from the sums of all ranks, on the host. Raises RankTelemetryError."""
    choice_share, open_share = (
        dict(zip(layout.names, share, strict=True)) for share in (rollout.choice_share, rollout.open_share)
    )
    return UpdateResult(
        nonfinite=nonfinite,
        **head_results(sums, layout, former.after(AdvantageSums.of(sums)), choice_share, open_share),
        **(_run_numbers(sums, rollout.steps) if len(sums.optimizer_steps) else {}),
    )


def _run_numbers(sums: UpdateSums[FloatArray], steps: int) -> dict[str, Any]:
    """The numbers that belong to no head; ``steps`` of the rollout, on all ranks."""
    optimizer_steps = _total(sums.optimizer_steps)
    return {
        "kl_divergence": sums.kl_divergence.item() / steps,
        "clipped_share": _total(sums.clipped_steps) / (len(sums.clipped_steps) * steps),
        "gradient_norm": _total(sums.gradient_norm) / optimizer_steps,
        "policy_loss": _total(sums.policy_loss) / optimizer_steps,
        "value_loss": _total(sums.value_loss) / optimizer_steps,
        "explained_variance": sums.explained_variance.item(),
    }


def _total(by_epoch: FloatArray) -> float:
    return math.fsum(by_epoch.tolist())
