"""The best preference of a head under masks: what it would do most like itself without a look at the state.

A preference is one weight per action. Its log-likelihood of what the head did is that of a choice model
(Hunter 2004, "MM algorithms for generalized Bradley-Terry models"), concave in the logarithms of the weights.
Hunter's minorize-maximize steps never make it worse, but a head that nearly always takes the same action needs
hundreds of them under masks. So a few of them lead to Newton's steps, of which five leave less than 0.01 nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rl_exporter.decisions import NEWTON_DAMPING, NEWTON_LARGEST_STEP


def newton_sums(valid: Tensor, weights: Tensor) -> Tensor:
    """(H, n, n): for each pair of actions, the sum over S steps of the product of their shares; ranks may add.

    ``valid`` (H, n, S) is 1 where an action was valid at a choice step of its head, else 0; ``weights`` (H, n).
    """
    total = weights.to(valid.dtype).unsqueeze(1) @ valid
    shares = valid * weights.to(valid.dtype).unsqueeze(2) / torch.where(total > 0, total, 1.0)
    return shares @ shares.mT


def newton_step(weights: Tensor, probability: Tensor, sums: Tensor) -> Tensor:
    """The weights (H, n) after one damped Newton's step.

    ``probability`` (H, n) sums what the head itself did; ``sums`` are those of ``newton_sums`` over all ranks.
    """
    pairs = sums.to(weights.dtype)
    # The shares of a choice step sum to 1, so these are the expected counts.
    expected = pairs.sum(2)
    # An action that was never valid, or has no weight left, stays where it is.
    curvature = torch.where(expected > 0, expected * (1.0 + NEWTON_DAMPING), 1.0)
    # solve() would wait for the device to report errors; what it cannot solve is not finite.
    step, _ = torch.linalg.solve_ex(torch.diag_embed(curvature) - pairs, probability - expected)
    limited = step.nan_to_num_(0.0, 0.0, 0.0).clamp_(-NEWTON_LARGEST_STEP, NEWTON_LARGEST_STEP)
    # Only ratios of weights matter, so nothing makes them sum to 1.
    moved: Tensor = limited.exp_().mul_(weights)
    return moved
