"""Listening to a policy while its loss is computed: distributions as evaluated, gradients before clipping.

Nothing here computes a forward pass, and a copy or pickle of the policy carries none of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn

from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.taps import Tap

StepsListener = Callable[[], None]
"""Takes one minibatch: the distribution holds it."""


class EntropyTap:
    """Stands in for ``entropy`` of one policy's action distribution and returns exactly what that returns.

    While it has a ``listener``, and where gradients are on (the loss, no evaluation on the side), it says that
    the distribution holds a minibatch. The compiler of torch follows it without a graph break.
    """

    def __init__(self, distribution: Distribution, guard: ErrorGuard) -> None:
        self._guard = guard
        self.listener: StepsListener | None = None
        self._tap = Tap(distribution, "entropy", self._entropy)

    def _entropy(self, entropy: Callable[[], Tensor | None]) -> Tensor | None:
        """Entropy of the whole policy at each step, (B,), as the distribution gives it."""
        listener = self.listener
        if listener is not None and torch.is_grad_enabled():
            if torch.compiler.is_compiling():
                listener()  # it only traces here, and the meter guards itself
            else:
                with self._guard:
                    listener()
        return entropy()

    def remove(self) -> None:
        """Put back what stood there before; another tap on top of this one stays and calls through."""
        self.listener = None
        self._tap.remove()


class GradientTap:
    """Tells its listener, at every backward pass, that the action layer has gradients, not yet clipped."""

    def __init__(self, layer: nn.Linear, guard: ErrorGuard) -> None:
        self._guard = guard
        parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        self._expected = len(parameters)
        self._seen = 0
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._count)  # type: ignore[no-untyped-call] # torch
            for parameter in parameters
        ]
        self.listener: Callable[[], None] | None = None

    def _count(self, _parameter: Tensor) -> None:
        self._seen += 1
        if self._seen == self._expected:
            self._seen = 0
            if self.listener is not None:
                with self._guard:
                    self.listener()

    def remove(self) -> None:
        """Take the hooks off."""
        self.listener = None
        for handle in self._handles:
            handle.remove()
