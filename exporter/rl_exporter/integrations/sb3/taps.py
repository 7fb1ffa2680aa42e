"""Listening to a policy while its loss is computed: entropies as evaluated, gradients before clipping.

Nothing here computes a forward pass, and a copy or pickle of the policy carries none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn
from torch.distributions import Categorical

from rl_exporter.integrations.guard import ErrorGuard
from rl_exporter.integrations.sb3.policy import categoricals, masks_of

StepsListener = Callable[[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]], None]
"""Takes one minibatch: entropy (B,), mask (B, n) or None without masks, probabilities (B, n) of each head."""


class EntropyTap:
    """Stands in for ``entropy`` of one policy's action distribution and returns exactly what that returns.

    While it has a ``listener``, and where gradients are on (the loss, but no evaluation on the side), it hands
    over what each head's own distribution answered.
    """

    def __init__(self, distribution: Distribution, guard: ErrorGuard) -> None:
        self._distribution = distribution
        self._guard = guard
        self.listener: StepsListener | None = None
        self._removed = False
        self._previous: Any = vars(distribution).get("entropy")
        self._entropy = self._previous or partial(type(distribution).entropy, distribution)
        vars(distribution)["entropy"] = self

    def __call__(self) -> Tensor | None:
        """Entropy of the whole policy at each step, (B,), as the distribution gives it."""
        listener = self.listener
        if listener is None or not torch.is_grad_enabled():
            return cast(Tensor | None, self._entropy())
        kept: list[_Kept] = []
        with self._guard:
            kept = [_Kept(categorical) for categorical in categoricals(self._distribution)]
        total = self._entropy()
        with self._guard:
            entropies = [one.release() for one in kept]
            masks = [one.masks for one in kept if one.masks is not None]
            # The entropy has just computed them, and the distribution keeps them.
            probabilities = [one.probs.detach() for one in categoricals(self._distribution)]
            listener(entropies, masks or None, probabilities)
        return cast(Tensor | None, total)

    def remove(self) -> None:
        """Put back what stood there before; another tap on top of this one stays and calls through."""
        self.listener = None
        self._removed = True
        if vars(self._distribution).get("entropy") is not self:
            return
        previous = self._previous
        while isinstance(previous, EntropyTap) and previous._removed:  # noqa: SLF001 - its own kind
            previous = previous._previous  # noqa: SLF001 - the same
        if previous is None:
            del vars(self._distribution)["entropy"]
        else:
            vars(self._distribution)["entropy"] = previous

    def __reduce__(self) -> tuple[Any, ...]:
        """A copied or pickled policy gets its own plain method instead."""
        return getattr, (self._distribution, "entropy")


class _Kept:
    """One head's entropy, kept when the policy's own code asks for it. Lives for one call."""

    def __init__(self, categorical: Categorical) -> None:
        self._categorical = categorical
        self._previous: Any = vars(categorical).get("entropy")
        self._entropy: Callable[[], Any] = self._previous or partial(type(categorical).entropy, categorical)
        self._value: Tensor | None = None
        self.masks = masks_of(categorical)
        vars(categorical)["entropy"] = self

    def __call__(self) -> Tensor:
        self._value = value = cast(Tensor, self._entropy())
        return value

    def release(self) -> Tensor:
        del vars(self._categorical)["entropy"]
        if self._previous is not None:
            vars(self._categorical)["entropy"] = self._previous
        if self._value is None:
            raise RuntimeError("the policy's entropy does not ask its heads for theirs; they are not measured")
        return self._value.detach()


class GradientTap:
    """Norm of the gradient of each row of the action layer, at every backward pass, before clipping."""

    def __init__(self, layer: nn.Linear, guard: ErrorGuard) -> None:
        self._guard = guard
        self._kept: list[list[Tensor]] = []
        self._handles: list[Any] = []
        for parameter in layer.parameters():
            if parameter.requires_grad:
                kept: list[Tensor] = []
                self._kept.append(kept)
                hook = partial(self._keep, kept)
                self._handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call] # torch
        self.listening = False

    def _keep(self, kept: list[Tensor], parameter: Tensor) -> None:
        if self.listening:
            with self._guard:
                gradient = cast(Tensor, parameter.grad).detach()
                kept.append(gradient.abs() if gradient.ndim == 1 else torch.linalg.vector_norm(gradient, dim=1))

    def take(self) -> Tensor | None:
        """Row norms since the last call, (optimiser steps, Σn); None when there were none."""
        parts = [torch.stack(kept) for kept in self._kept if kept]
        for kept in self._kept:
            kept.clear()
        return torch.linalg.vector_norm(torch.stack(parts), dim=0) if parts else None

    def remove(self) -> None:
        """Take the hooks off."""
        self.listening = False
        for handle in self._handles:
            handle.remove()
