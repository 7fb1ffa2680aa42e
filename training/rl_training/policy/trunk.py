"""What actor and critic see: an encoder and an LSTM, step by step or over whole rollouts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rl_training.config import OBSERVATION_LIMIT
from rl_training.policy import lockstep
from rl_training.policy.fragments import Fragments
from rl_training.policy.lockstep import LSTMState

_LOCKSTEP_DEVICES = ("cpu",)


class RecurrentTrunk(nn.Module):
    """An encoder of observations and an LSTM over it.

    Under autocast only the product of the encoder has the lower precision. The state of the LSTM sums over many
    steps, and autocast would run that of cuDNN in float16, even where it was told bfloat16.
    """

    def __init__(self, observation_size: int, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(observation_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        # Orthogonal weights keep the scale of signals from layer to layer, as is usual for PPO.
        nn.init.orthogonal_(self.encoder.weight, math.sqrt(2))
        nn.init.zeros_(self.encoder.bias)
        for name, parameter in self.lstm.named_parameters():
            nn.init.orthogonal_(parameter) if "weight" in name else nn.init.zeros_(parameter)

    def step(self, observations: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """One step: observations (B, D) to features (B, hidden) and the next state."""
        encoded = self._encoded(observations).unsqueeze(1)
        with _full_precision(observations.device):
            features, (hidden, cell) = self.lstm(encoded, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
        return features.squeeze(1), (hidden.squeeze(0), cell.squeeze(0))

    def sequence(self, observations: Tensor, fragments: Fragments, state: LSTMState) -> Tensor:
        """A rollout: observations (T, B, D) to features (T, B, hidden); ``state`` is that before it."""
        packed = PackedSequence(self._encoded(fragments.packed(observations)), torch.tensor(fragments.alive))
        hidden, cell = (fragments.initial(part).unsqueeze(0) for part in state)
        with _full_precision(observations.device):
            features, _ = self.lstm(packed, (hidden, cell))
        return torch.unflatten(features.data.index_select(0, fragments.back), 0, observations.shape[:2])

    def _encoded(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.encoder(observations).to(self.encoder.weight.dtype))

    def weights(self) -> tuple[Tensor, ...]:
        """The parameters in the order of ``lockstep.Weights``."""
        lstm = self.lstm
        named = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)
        return self.encoder.weight, self.encoder.bias, *(cast(Tensor, weight) for weight in named)


class Trunks:
    """One or two trunks of one width; their states lie side by side in an ``LSTMState``.

    On a CPU they run in lockstep, which knows no autocast. Under it, as on a GPU, nn.LSTM runs each by itself.
    """

    def __init__(self, trunks: Sequence[RecurrentTrunk]) -> None:
        self._trunks = tuple(trunks)
        lockstep.lay_together([trunk.weights() for trunk in trunks])

    def step(self, observations: Tensor, state: LSTMState) -> tuple[list[Tensor], LSTMState]:
        """One step without gradient: observations (B, D) to features (B, hidden) each and the next state."""
        observations = _within_limits(observations)
        if _in_lockstep(observations.device):
            together, state = lockstep.step(self._weights(), observations, state)
            return list(together.unbind()), state
        each = zip(self._trunks, self._states(state), strict=True)
        features, states = zip(*(trunk.step(observations, own) for trunk, own in each), strict=True)
        hidden, cell = (torch.cat(parts, -1) for parts in zip(*states, strict=True))
        return list(features), (hidden, cell)

    def sequences(self, observations: Tensor, fragments: Fragments, state: LSTMState) -> list[Tensor]:
        """A rollout: observations (T, B, D) to features (T, B, hidden) each; ``state`` is that before it."""
        observations = _within_limits(observations)
        if _in_lockstep(observations.device):
            return list(lockstep.sequences(self._weights(), observations, fragments, state).unbind())
        each = zip(self._trunks, self._states(state), strict=True)
        return [trunk.sequence(observations, fragments, own) for trunk, own in each]

    def _weights(self) -> list[Tensor]:
        return [weight for trunk in self._trunks for weight in trunk.weights()]

    def _states(self, state: LSTMState) -> list[LSTMState]:
        hidden, cell = (part.chunk(len(self._trunks), -1) for part in state)
        return [(own.contiguous(), own_cell.contiguous()) for own, own_cell in zip(hidden, cell, strict=True)]


def _in_lockstep(device: torch.device) -> bool:
    return device.type in _LOCKSTEP_DEVICES and not torch.is_autocast_enabled(device.type)


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    lower = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if lower else nullcontext()


def _within_limits(observations: Tensor) -> Tensor:
    return observations.clamp(-OBSERVATION_LIMIT, OBSERVATION_LIMIT)
