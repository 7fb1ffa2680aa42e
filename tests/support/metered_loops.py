"""Random training loops that are fed to several meters: what a loop hands over, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from rl_exporter.integrations.meter.consulting import Operations

SHADOWED = -1e8
"""What a policy that masks its own logits writes."""


@dataclass(frozen=True)
class Loop:
    """The kind of one update; ``seed`` decides its numbers."""

    sizes: tuple[int, ...]
    seed: int = 0
    epochs: int = 2
    minibatches: int = 2
    steps: int = 24
    cut_short: bool = False
    """Another epoch ends after its first minibatch."""
    sharpness: float = 1.0
    masks: str = "random"
    """``none``, ``random``, ``inferred`` from the logits, or ``empty``: some allow nothing."""
    operations: str = "none"
    """``none``; ``row``: masks of the sampled operation; ``table``: masks of each operation; ``masks``: likewise, and
    the masks say which heads an operation uses.
    """
    padding: bool = False
    consulted: bool = False
    bad: bool = False
    """Some logits are NaN or infinite."""
    ratios: str = "heads"
    """``none``, ``heads`` or ``joint``."""
    advantages: bool = True
    gradients: bool = True

    @property
    def heads(self) -> dict[str, int]:
        """Names and sizes."""
        return {f"h{index}": size for index, size in enumerate(self.sizes)}

    @property
    def operation_heads(self) -> Operations | None:
        """The first head selects the operation; operation k consults the heads whose index k divides."""
        if self.operations == "none":
            return None
        used = [[name for i, name in enumerate(self.heads) if i % (k + 1) == 0] for k in range(self.sizes[0])]
        return Operations("h0", None if self.operations == "masks" else tuple(map(tuple, used)))

    def epochs_of_minibatches(self) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The minibatches of each epoch as arguments of ``add``, and whether the epoch is whole."""
        generator = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            yield [self._minibatch(generator) for _ in range(self.minibatches)], True
        if self.cut_short:
            yield [self._minibatch(generator)], False

    def _minibatch(self, generator: np.random.Generator) -> dict[str, Any]:
        steps, heads = self.steps, len(self.sizes)
        actions = np.stack([generator.integers(size, size=steps) for size in self.sizes], 1)
        given: dict[str, Any] = {"actions": actions, **self._masks(generator)}
        logits = self.sharpness * generator.standard_normal((steps, sum(self.sizes)))
        if self.masks == "inferred":
            logits = np.where(given.pop("masks"), logits, SHADOWED)
        if self.bad:
            wrong = np.array([np.nan, np.inf, -np.inf])[generator.integers(3, size=logits.shape)]
            logits = np.where(generator.random(logits.shape) < 0.02, wrong, logits)
        given["logits"] = logits
        if self.padding:
            given["valid"] = generator.random(steps) < 0.7
        if self.consulted:
            given["consulted"] = generator.random((steps, heads)) < 0.6
        if self.advantages:
            paid = generator.standard_normal(steps)
            given["advantages"] = np.where(generator.random(steps) < 0.05, np.nan, paid) if self.bad else paid
        if self.ratios != "none":
            shape = (steps, heads) if self.ratios == "heads" else (steps,)
            given["log_probs"], given["old_log_probs"] = 0.2 * generator.standard_normal((2, *shape))
        return given

    def _masks(self, generator: np.random.Generator) -> dict[str, Any]:
        if self.masks == "none":
            return {}
        rows = (self.steps,) if self.operations in ("none", "row") else (self.steps, self.sizes[0])
        masks = generator.random((*rows, sum(self.sizes))) < 0.6
        first = np.cumsum((0, *self.sizes[:-1]))
        masks[..., first] |= self.masks != "empty"
        if len(rows) > 1:  # the operations that are valid do not depend on the operation
            masks[..., : self.sizes[0]] = masks[:, :1, : self.sizes[0]]
        return {"masks": masks}

    def norms(self) -> Iterator[np.ndarray]:
        """The gradient of the layer that puts out the logits, (Σn, 3), for each optimiser step."""
        generator = np.random.default_rng(self.seed + 1)
        for _ in range(self.epochs * self.minibatches + self.cut_short):
            gradient = generator.standard_normal((sum(self.sizes), 3))
            yield np.where(generator.random(gradient.shape) < 0.005, np.nan, gradient) if self.bad else gradient


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-6) -> None:
    """Two results of meters have the same numbers."""
    assert found.keys() == expected.keys()
    for name, of_heads in expected.items():
        one, other = (
            ({None: found[name]}, {None: of_heads}) if name == "clipped_share" else (found[name], of_heads)
        )
        assert one.keys() == other.keys(), name
        for head, value in other.items():
            assert one[head] == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), (name, head)


def as_tensors(value: Any) -> Any:
    """Arrays in mappings and lists as tensors; the rest as it is."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {name: as_tensors(part) for name, part in value.items()}
    return [as_tensors(part) for part in value] if isinstance(value, list) else value


SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)

LOOPS = st.builds(
    Loop,
    sizes=SIZES,
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(0, 3),
    minibatches=st.integers(1, 3),
    steps=st.integers(1, 40),
    cut_short=st.booleans(),
    sharpness=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    masks=st.sampled_from(["none", "random", "inferred", "empty"]),
    operations=st.sampled_from(["none", "row", "table", "masks"]),
    padding=st.booleans(),
    consulted=st.booleans(),
    bad=st.booleans(),
    ratios=st.sampled_from(["none", "heads", "joint"]),
    advantages=st.booleans(),
    gradients=st.booleans(),
).filter(lambda loop: loop.masks in ("random", "empty") or loop.operations in ("none", "row"))
