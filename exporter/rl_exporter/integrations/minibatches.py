"""What a library hands over while it optimises, kept until it is known to count: minibatches and scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_exporter.integrations.meter.form import PerHead
from rl_exporter.integrations.meter.gradients import Parameters
from rl_exporter.integrations.meter.head_meter import HeadMeter
from rl_exporter.integrations.meter.layout import exact_dtype


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """The arguments of ``HeadMeter.add``; nothing of it holds the graph of the loss."""

    logits: PerHead
    masks: PerHead | None = None
    valid: Tensor | None = None
    actions: Tensor | None = None
    advantages: Tensor | None = None
    log_probs: Tensor | None = None
    old_log_probs: Tensor | None = None


class EpochBuffer:
    """Minibatches of the present epoch. The meter gets them once the epoch is whole.

    A library may cut an epoch short and start the next one, which the meter alone could not tell from a long
    epoch. An update without a whole epoch is measured at the longest part of one: a random part of the rollout,
    because minibatches are drawn at random.

    ``standardize``: advantages are raw, and are normalized over the epoch. Methods raise as ``HeadMeter.add``.
    """

    def __init__(self, meter: HeadMeter, *, standardize: bool = False) -> None:
        self._meter, self._standardize = meter, standardize
        self._kept: list[Minibatch] = []
        self._longest: list[Minibatch] = []
        self._longest_frames, self._has_whole = 0, False
        self.frames = 0
        """Steps of the present epoch so far, in the unit of the library."""

    def add(self, minibatch: Minibatch, frames: int) -> None:
        """Keep one minibatch."""
        self._kept.append(minibatch)
        self.frames += frames

    def gradients(self, owners: Parameters | Mapping[str, Parameters]) -> None:
        """What the backward pass of the last minibatch left; see ``HeadMeter.gradients``."""
        self._meter.gradients(owners, ahead=len(self._kept))

    def end_epoch(self) -> None:
        """Every step was added once."""
        self._has_whole = self._has_whole or self.frames > 0
        kept, self._kept, self.frames = self._kept, [], 0
        self._measure(kept)

    def cut_short(self) -> None:
        """Another epoch begins, although this one is not whole."""
        if self.frames > self._longest_frames:
            self._longest, self._longest_frames = self._kept, self.frames
        self._kept, self.frames = [], 0

    def end_update(self) -> None:
        """The library goes on with another rollout."""
        self.cut_short()
        longest, whole = self._longest, self._has_whole
        self._longest, self._longest_frames, self._has_whole = [], 0, False
        if not whole:
            self._measure(longest)

    def _measure(self, kept: list[Minibatch]) -> None:
        scale = _moments(kept) if self._standardize else None
        for minibatch in kept:
            arguments = {**vars(minibatch)}
            if scale is not None:
                arguments["advantages"] = (arguments["advantages"] - scale[0]) / scale[1]
            self._meter.add(arguments.pop("logits"), arguments.pop("masks"), **arguments)
        self._meter.end_epoch()


def _moments(kept: list[Minibatch]) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation of the advantages of an epoch."""
    parts = [_counted(one, one.advantages) for one in kept if one.advantages is not None]
    if not parts or len(parts) < len(kept):
        return None
    values, counted = (torch.cat(part) for part in zip(*parts, strict=True))
    steps = counted.sum()
    mean = (values * counted).sum() / steps.clamp_min(1)
    return mean, (((values - mean).square() * counted).sum() / (steps - 1).clamp_min(1)).sqrt().clamp_min(1e-8)


def _counted(minibatch: Minibatch, advantages: Tensor) -> tuple[Tensor, Tensor]:
    """Advantages (S,), 0 where they are padding, and whether they count."""
    values = advantages.detach().flatten().to(exact_dtype(advantages.device))
    if minibatch.valid is None:
        return values, torch.ones_like(values)
    counted = minibatch.valid.flatten().to(values.dtype)
    return torch.where(counted > 0, values, 0.0), counted


class DeviceMeans:
    """Means of scalars that lie on the device, by name; the host reads all of them at once."""

    def __init__(self) -> None:
        self._numbers: list[tuple[str, float | None]] = []
        self._values: list[Tensor] = []

    def add(self, name: str, value: Tensor, weight: float = 1.0) -> None:
        """Count ``value``, one number, ``weight`` times."""
        self._numbers.append((name, weight))
        self._keep(value)

    def add_steps(self, name: str, values: Tensor, counted: Tensor | None = None) -> None:
        """Count numbers of S steps, (S,), at the steps that ``counted``, (S,), names."""
        if counted is None:
            self.add(name, values.mean(), len(values))
            return
        self._numbers.append((name, None))
        # A product with False would keep NaN.
        self._keep(values.where(counted, values.new_zeros(())).sum())
        self._keep(counted.sum())

    def _keep(self, value: Tensor) -> None:
        value = value.detach().reshape(())
        self._values.append(value if value.is_floating_point() else value.to(exact_dtype(value.device)))

    def take(self) -> Callable[[], dict[str, float]]:
        """Begin anew. The function that it returns gives the means, once the host has waited for the device."""
        numbers, values = self._numbers, self._values
        self._numbers, self._values = [], []
        if not values:
            return dict
        moved = torch.stack(values)
        # The host waits for the device when it reads the meter's result, which is queued behind this copy: read
        # after it, these numbers cost no wait of their own.
        on_host, copied = moved.to("cpu", non_blocking=True), None
        if moved.is_cuda:
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch
            copied.record()

        def means() -> dict[str, float]:
            if copied is not None:
                copied.synchronize()
            return _means(numbers, iter(on_host.tolist()))

        return means


def _means(numbers: list[tuple[str, float | None]], values: Iterator[float]) -> dict[str, float]:
    """A number without weight is a sum, and the next value counts its steps."""
    sums: dict[str, tuple[float, float]] = {}
    for name, weight in numbers:
        total, steps = sums.get(name, (0.0, 0.0))
        value = next(values)
        added = (value, next(values)) if weight is None else (value * weight, weight)
        sums[name] = total + added[0], steps + added[1]
    return {name: total / steps for name, (total, steps) in sums.items() if steps}


def divergences(log_ratios: Tensor) -> Tensor:
    """ratio - 1 - log ratio, in nats, from the log-ratios of S steps, all heads together."""
    exact = log_ratios.detach().to(exact_dtype(log_ratios.device))
    return exact.exp() - 1 - exact
