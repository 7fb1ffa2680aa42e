"""The host network, the modules that grow on it, and how both train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_training.action_space import Blueprint, Slot
from rl_training.environments.growing.data import CLASSES, PATCH, Digits, digits
from rl_training.environments.growing.lifecycle import Slots, SlotState, Stage, dormant_slots
from rl_training.environments.growing.styles import Graft
from rl_training.optimizer import Adam

CHANNELS = 8
SIDE = 4
"""Features have ``SIDE`` x ``SIDE`` positions after every stage; a slot follows each stage."""

_PLATEAU_SEED = 1
_PLATEAU_RATE = 0.01


class Host(nn.Module):
    """Three stages and a linear read-out; only the first stage looks at a neighbourhood.

    The host is too weak alone on purpose: on a strong one, waiting is the best policy, and the ``op`` head
    collapses onto WAIT. The first stage is a 3 x 3 convolution of stride 2 over patches that ``digits`` cut in
    advance; the others are 1 x 1.
    """

    def __init__(self) -> None:
        super().__init__()
        inputs = (PATCH, CHANNELS, CHANNELS)
        self.stages = nn.ModuleList([nn.Linear(number, CHANNELS) for number in inputs])
        self.read_out = nn.Linear(CHANNELS, CLASSES)

    def stage(self, index: int, x: Tensor) -> Tensor:
        """The features (B, P, C) after stage ``index``."""
        return functional.relu(self.stages[index](x))


class Score(NamedTuple):
    """Mean loss and share of right answers."""

    loss: float
    accuracy: float


class LearningRates(NamedTuple):
    """Learning rates of Adam for the host and for grown modules."""

    host: float
    module: float


class GrowingNetwork:
    """A host with a graft in each occupied slot; the states of the slots say what trains and takes part.

    The host starts with ``weights``, or with random ones. All randomness comes from ``generator``; torch's
    global generator stays as it was.
    """

    def __init__(
        self,
        data: Digits,
        generator: torch.Generator,
        rates: LearningRates,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._data = data
        self._generator = generator
        self._rates = rates
        self._grafts: dict[int, Graft] = {}
        self._optimizers: dict[int, torch.optim.Optimizer] = {}
        self._gradients = [0.0] * len(Slot)
        with self._drawing():
            self._host = Host()
        if weights is not None:
            self._host.load_state_dict(weights)
        self._host_optimizer = _adam(self._host, rates.host)
        self.host_parameters = _count(self._host)

    def host_weights(self) -> Mapping[str, Tensor]:
        """A copy of the host's weights."""
        return {name: value.clone() for name, value in self._host.state_dict().items()}

    def parameters_of(self, index: int) -> int:
        """Number of parameters of the module in slot ``index``; 0 without one."""
        return _count(self._grafts[index].module) if index in self._grafts else 0

    def gradient_norm(self, index: int) -> float:
        """Gradient norm of the graft in slot ``index`` at the last batch; 0 without a graft."""
        return self._gradients[index]

    def follow(self, slots: Slots) -> None:
        """Add a graft to each slot that germinated, and remove that of each slot that lost its module."""
        for index, slot in enumerate(slots):
            if not slot.occupied:
                self._grafts.pop(index, None)
                self._optimizers.pop(index, None)
                self._gradients[index] = 0.0
            elif index not in self._grafts:
                self._grow(index, slot.blueprint)

    def train_epoch(self, slots: Slots, samples: int, batch: int) -> float:
        """Train on ``samples`` random training images, once each; returns the mean loss of the batches."""
        order = torch.randperm(len(self._data.patches), generator=self._generator)[:samples]
        losses = [self._train_batch(slots, part) for part in torch.split(order, batch)]
        for index, graft in self._grafts.items():
            self._gradients[index] = _gradient_norm(graft)
        return float(torch.stack(losses).mean())

    @torch.inference_mode()
    def validate(self, slots: Slots) -> Score:
        """Loss and accuracy on the validation images."""
        outputs = self.forward(self._data.validation_patches, slots)
        labels = self._data.validation_labels
        right = (outputs.argmax(1) == labels).float().mean()
        return Score(float(functional.cross_entropy(outputs, labels)), float(right))

    def forward(self, patches: Tensor, slots: Slots, *, rehearsal: bool = False) -> Tensor:
        """Patches (B, P, 9) to logits (B, 10). In a ``rehearsal``, modules in training have alpha 1."""
        features = patches
        for index, slot in enumerate(slots):
            features = self._host.stage(index, features)
            alpha = 1.0 if rehearsal and _rehearses(slot) else slot.alpha
            if alpha > 0:
                features = self._grafts[index].join(features, slot.style, alpha)
        outputs: Tensor = self._host.read_out(features.mean(1))
        return outputs

    def _train_batch(self, slots: Slots, part: Tensor) -> Tensor:
        optimizers = [self._host_optimizer, *self._optimizers.values()]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        patches, labels = self._data.patches[part], self._data.labels[part]
        loss = functional.cross_entropy(self.forward(patches, slots), labels)
        loss.backward()  # type: ignore[no-untyped-call] # torch
        # A module at alpha 0 has no part in the host's loss and would get no gradient: it learns from a second
        # pass in which it takes part, and from which the host does not learn.
        rehearsing = [self._grafts[index] for index, slot in enumerate(slots) if _rehearses(slot)]
        if rehearsing:
            rehearsed = functional.cross_entropy(self.forward(patches, slots, rehearsal=True), labels)
            _give_gradients(rehearsed, [p for graft in rehearsing for p in graft.parameters()])
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    def _grow(self, index: int, blueprint: Blueprint) -> None:
        with self._drawing():
            graft = Graft(blueprint, CHANNELS, SIDE)
        self._grafts[index] = graft
        self._optimizers[index] = _adam(graft, self._rates.module)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Let layers initialise themselves from this network's generator."""
        seed = int(torch.randint(2**62, (1,), generator=self._generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield


def _rehearses(slot: SlotState) -> bool:
    """Whether the module trains but does not take part in the host's features yet."""
    return slot.stage in {Stage.TRAINING, Stage.BLENDING} and slot.alpha == 0


def _give_gradients(loss: Tensor, parameters: list[nn.Parameter]) -> None:
    """Set the gradient of ``loss`` for these parameters, and for nothing else."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _adam(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    return Adam(module.parameters(), lr=rate, fused=True)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _gradient_norm(module: nn.Module) -> float:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0


@cache
def plateau_weights(epochs: int, samples: int, batch: int) -> Mapping[str, Tensor]:
    """Weights of a host that has trained alone for ``epochs``, after which it hardly improves any more.

    An episode starts there, so that only growing improves the accuracy. The seed is fixed, so every process
    computes the same weights, once.
    """
    generator = torch.Generator().manual_seed(_PLATEAU_SEED)
    network = GrowingNetwork(digits(), generator, LearningRates(_PLATEAU_RATE, _PLATEAU_RATE))
    for _ in range(epochs):
        network.train_epoch(dormant_slots(), samples, batch)
    return network.host_weights()
