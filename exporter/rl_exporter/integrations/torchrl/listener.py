"""What a loss asks of its actor while it is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase

from rl_exporter.integrations.taps import Tap


class Listener:
    """The forward hooks ``before`` and ``after`` of a loss. Outside an evaluation, nothing is touched.

    ``begin`` is called at the start of an evaluation with gradient, ``hear`` at its end with the tensors that
    the loss gave its actor, the distribution that it got, and the loss's own result.
    """

    def __init__(self, begin: Callable[[], None], hear: Callable[[TensorDictBase, Any, Any], None]) -> None:
        self._begin, self._hear = begin, hear
        self._heard: tuple[TensorDictBase, Any] | None = None
        self._tap: Tap | None = None
        self.before = _Hook(self._before)
        self.after = _Hook(self._after)

    def _before(self, loss: Any, _arguments: Any) -> None:
        if torch.is_grad_enabled() and self._tap is None:
            self._tap = Tap(loss.actor_network, "get_dist", self._get_dist)
            self._begin()

    def _get_dist(self, original: Callable[..., Any], sampled: TensorDictBase, *rest: Any, **named: Any) -> Any:
        distribution = original(sampled, *rest, **named)
        # That with gradient is of the policy in training. A loss may ask for the proximal one, too.
        if torch.is_grad_enabled():
            self._heard = sampled, distribution
        return distribution

    def _after(self, _loss: Any, _arguments: Any, output: Any) -> None:
        tap, self._tap = self._tap, None
        if tap is None:
            return
        tap.remove()
        heard, self._heard = self._heard, None
        if heard is not None and output is not None:
            self._hear(*heard, output)


class _Hook:
    """A hook that steps aside where a compiler traces it, and that does nothing in a copied or pickled loss."""

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> None:
        if not torch.compiler.is_compiling():
            self._function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (_ignore,)


def _ignore(*_arguments: Any) -> None:
    """What the hook of a copy does."""
