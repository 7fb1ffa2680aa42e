"""Masked categorical distributions of several heads that share one flat row of logits.

Reductions over the segments of the row serve all heads at once; a Python loop over heads would launch its
kernels once for each head.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rl_exporter.integrations.meter.layout import Columns, HeadLayout
from rl_exporter.integrations.meter.softmax import exponentials

_IMPOSSIBLE = -1e30
"""Logit of an action that is not valid. Its probability is exactly 0, and so is its part of the entropy:
0 times a finite number is 0. An infinite logit at a *valid* action still shows, as a NaN.
"""


class MaskedCategorical:
    """Categorical distributions of all heads under a mask.

    ``logits`` (…, Σn) may have any floating dtype, ``mask`` (…, Σn) is bool. The computation runs in float32,
    or in float64 where the logits are: half precision is too coarse for an entropy. With ``validate``, a head
    without a valid action raises ValueError; that check waits for the device, so hot paths leave it off and
    check their masks on the host.

    Inside, the columns come first, (Σn, …): a reduction over a handful of choices is ten times faster along the
    outermost dimension.
    """

    def __init__(self, logits: Tensor, mask: Tensor, layout: HeadLayout, *, validate: bool = True) -> None:
        if validate:
            layout.require_choices(mask.cpu().numpy())
        self._layout = layout
        columns = logits.to(torch.promote_types(logits.dtype, torch.float32)).movedim(-1, 0).contiguous()
        self._valid = mask.movedim(-1, 0).contiguous()
        self._logits = columns
        scores = torch.where(self._valid, columns.detach(), _IMPOSSIBLE)
        # The largest logit of each head becomes 0, so that exp cannot overflow.
        self._peak = layout.maxima(scores)
        self._softmax = _Softmax(layout, scores.sub_(layout.spread(self._peak)))

    @property
    def log_probs(self) -> Tensor:
        """Log-probability of every action, (…, Σn), without gradient; -1e30 or less where it is not valid."""
        return (self._softmax.centered - self._layout.spread(self._softmax.log_total)).movedim(0, -1)

    @property
    def columns(self) -> Columns:
        """What the distributions were computed from, without a copy."""
        return Columns(self._valid, self._softmax.weights, self._softmax.total)

    @property
    def peak(self) -> Tensor:
        """Largest logit among each head's valid actions, (…, H); NaN where one of them is NaN."""
        return self._peak.movedim(0, -1)

    @cached_property
    def entropy(self) -> Tensor:
        """Entropy of each head in nats, (…, H); exactly 0 with one valid action.

        NaN where, and only where, a logit of a valid action is not finite.

        With z = logit - max and Z = Σ exp z: H = ln Z - Σ z exp z / Z. Neither ln Z nor -Σ z exp z / Z is
        negative, so they cannot cancel, and rounding cannot make an entropy negative.
        """
        found: Tensor = _Entropy.apply(self._logits, self._softmax)  # type: ignore[no-untyped-call] # torch
        return found.movedim(0, -1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of each head's action, (…, H); -1e30 or less for one that is not valid."""
        # Actions count within their head; the flat row counts over all heads.
        columns = (actions + self._layout.first).movedim(-1, 0)
        found: Tensor = _LogProb.apply(self._logits, self._softmax, columns)  # type: ignore[no-untyped-call] # torch
        return found.movedim(0, -1)

    def choose(self, noise: Tensor) -> Tensor:
        """Sample each head's action, (…, H), with exponential noise (…, Σn).

        The Gumbel-max trick (Gumbel 1954): argmax(log p - log E) with E ~ Exp(1) is a sample of p. It samples
        all heads in one reduction, and the noise of an environment comes from its own generator, so that its
        actions do not depend on the environments beside it.
        """
        # log 0 would make an action with that noise win whatever its probability.
        positive = noise.clamp_min(torch.finfo(noise.dtype).tiny).movedim(-1, 0)
        return self._layout.best(self._softmax.centered - positive.log()).movedim(0, -1)


class _Softmax:
    """The distributions as numbers, columns first, which log-probability, entropy and their gradients share."""

    def __init__(self, layout: HeadLayout, centered: Tensor) -> None:
        self.layout = layout
        self.centered = centered
        self.weights = exponentials(centered)
        self.total = layout.sums(self.weights)
        self.log_total = self.total.log()

    @cached_property
    def probabilities(self) -> Tensor:
        """(Σn, …)"""
        return self.weights / self.layout.spread(self.total)


class _LogProb(torch.autograd.Function):
    """ln π(a) of the actions at ``columns`` (H, …); its gradient by a logit z_b is 1[a = b] - π(b)."""

    @staticmethod
    def forward(ctx: Any, _logits: Tensor, softmax: _Softmax, columns: Tensor) -> Tensor:
        ctx.softmax, ctx.columns = softmax, columns
        return softmax.centered.gather(0, columns).sub_(softmax.log_total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        softmax: _Softmax = ctx.softmax
        gradient = softmax.layout.spread(upstream.neg()).mul_(softmax.probabilities)
        return gradient.scatter_add_(0, ctx.columns, upstream), None, None


class _Entropy(torch.autograd.Function):
    """ln Z - Σ z π(z); its gradient by a logit z_b is π(b) (Σ z π(z) - z_b)."""

    @staticmethod
    def forward(ctx: Any, _logits: Tensor, softmax: _Softmax) -> Tensor:
        ctx.softmax = softmax
        ctx.mean = softmax.layout.sums(softmax.weights * softmax.centered).div_(softmax.total)
        entropy: Tensor = softmax.log_total - ctx.mean
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        softmax: _Softmax = ctx.softmax
        spread = softmax.layout.spread
        return spread(ctx.mean).sub_(softmax.centered).mul_(softmax.probabilities).mul_(spread(upstream)), None
