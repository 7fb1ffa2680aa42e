"""How the policy acts: from the logits of a step to an action of each head."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.policy.distributions import MaskedCategorical


def sample_actions(logits: Tensor, masks: Tensor, layout: HeadLayout, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Sample the operation first, then the other heads under its masks: actions (N, H), log-probs (N, H).

    ``logits`` (N, Σn), ``masks`` (N, K, Σn) bool, exponential ``noise`` (N, Σn); a noise of 1 everywhere gives
    each head its most probable action. A head that the operation does not consult may only take its canonical
    action. Its log-probability is then exactly 0, so that it adds nothing to the importance ratio of the step.
    """
    rows = masks[:, 0]
    if masks.shape[1] > 1:
        first = MaskedCategorical(logits, rows, layout, validate=False).choose(noise)[:, 0]
        rows = masks[torch.arange(len(rows), device=masks.device), first]
    distribution = MaskedCategorical(logits, rows, layout, validate=False)
    actions = distribution.choose(noise)
    return actions, distribution.log_prob(actions)
