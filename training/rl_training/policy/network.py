"""The policy: an encoder, one LSTM shared by actor and critic, a small module per head, a value head."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_training.action_space import BoolArray
from rl_training.policy.distributions import HeadLayout, MaskedCategorical

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state, each (B, hidden)."""


class Evaluation(NamedTuple):
    """What the present policy says about stored steps: T steps of B environments."""

    log_probs: Tensor
    """(T, B, H) of the stored actions."""
    distribution: MaskedCategorical
    values: Tensor
    """(T, B)"""
    logits: Tensor
    """(T, B, Σn), before masks."""


class HeadModules(nn.Module):
    """One two-layer module per head, batched along a leading head dimension.

    Each head has parameters of its own, so that the norm of their gradient says something about that head.
    """

    def __init__(self, layout: HeadLayout, inputs: int, hidden: int = 32) -> None:
        super().__init__()
        heads = len(layout.sizes)
        self.weight_in = nn.Parameter(torch.empty(heads, inputs, hidden))
        self.bias_in = nn.Parameter(torch.zeros(heads, hidden))
        self.weight_out = nn.Parameter(torch.empty(heads, hidden, layout.width))
        self.bias_out = nn.Parameter(torch.zeros(heads, layout.width))
        for head in range(heads):
            nn.init.orthogonal_(self.weight_in[head], math.sqrt(2))
            # A small output layer: the policy starts close to uniform, where every head explores.
            nn.init.orthogonal_(self.weight_out[head], 0.01)
        self.register_buffer("flat", (~layout.outside.T).flatten().nonzero().squeeze(-1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features (…, inputs) to one flat row of logits (…, Σn)."""
        hidden = torch.tanh(torch.einsum("...i,hik->...hk", features, self.weight_in) + self.bias_in)
        # All heads as wide as the widest: one product instead of a loop. ``flat`` drops the unused columns.
        padded = torch.einsum("...hk,hkn->...hn", hidden, self.weight_out) + self.bias_out
        flat: Tensor = self.get_buffer("flat")
        return padded.flatten(-2)[..., flat]

    def gradient_norms(self) -> Tensor:
        """Norm of the gradient of each head's own parameters, (H,)."""
        gradients = [p.grad for p in self.parameters(recurse=False) if p.grad is not None]
        # The norm of the norms: to copy all gradients into one matrix would take longer.
        by_parameter = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(by_parameter), dim=0)
        return norms


class FactoredRecurrentActorCritic(nn.Module):
    """Actor and critic over one recurrent representation; one flat row of logits for all heads."""

    def __init__(self, observation_size: int, layout: HeadLayout, hidden: int = 64) -> None:
        super().__init__()
        self.layout = layout
        self.hidden = hidden
        self.encoder = nn.Linear(observation_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.heads = HeadModules(layout, hidden)
        self.value = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        # Orthogonal weights keep the scale of signals from layer to layer, as is usual for PPO.
        nn.init.orthogonal_(self.encoder.weight, math.sqrt(2))
        nn.init.zeros_(self.encoder.bias)
        for name, parameter in self.lstm.named_parameters():
            nn.init.orthogonal_(parameter) if "weight" in name else nn.init.zeros_(parameter)

    def initial_state(self, batch: int) -> LSTMState:
        """The recurrent state at the start of an episode: zeros, (batch, hidden) each."""
        zeros = self.encoder.weight.new_zeros(batch, self.hidden)
        return zeros, zeros

    def step(self, observation: Tensor, state: LSTMState) -> tuple[Tensor, Tensor, LSTMState]:
        """Act for one step: observations (B, D) to logits (B, Σn), values (B,) and the next recurrent state."""
        encoded = torch.tanh(self.encoder(observation)).unsqueeze(1)
        features, (hidden, cell) = self.lstm(encoded, (state[0].unsqueeze(0), state[1].unsqueeze(0)))
        features = features.squeeze(1)
        return self.heads(features), self.value(features).squeeze(-1), (hidden.squeeze(0), cell.squeeze(0))

    def evaluate_actions(
        self,
        observations: Tensor,
        actions: Tensor,
        masks: Tensor,
        starts: BoolArray,
        state: LSTMState,
    ) -> Evaluation:
        """Evaluate stored sequences under the masks that the policy sampled with.

        ``observations`` (T, B, D), ``actions`` (T, B, H), ``masks`` (T, B, Σn) bool. ``starts`` (T, B) is True
        where an episode begins, so that the recurrent state is zero there; ``state`` is the one before t = 0.
        """
        features = self._sequence(torch.tanh(self.encoder(observations)), starts, state)
        logits = self.heads(features)
        distribution = MaskedCategorical(logits, masks, self.layout, validate=False)
        return Evaluation(
            distribution.log_prob(actions), distribution, self.value(features).squeeze(-1), logits
        )

    def _sequence(self, encoded: Tensor, starts: BoolArray, state: LSTMState) -> Tensor:
        """Run the LSTM over (T, B, hidden): each fragment of an episode is a row of one padded batch.

        One call over padded fragments is much faster than T calls that reset the state step by step.
        """
        steps, batch = starts.shape
        # A fragment begins with an episode or with the rollout. Environments come first, so that the steps of a
        # fragment are neighbours in the flat order.
        begins = starts.T.copy()
        begins[:, 0] = True
        flat_begins = np.flatnonzero(begins.reshape(-1))
        fragment = np.cumsum(begins.reshape(-1)) - 1
        position = np.arange(steps * batch) - flat_begins[fragment]
        width = int(position.max()) + 1
        rows = np.zeros((len(flat_begins), width), dtype=np.int64)
        rows[fragment, position] = np.arange(steps * batch)
        # Only a fragment that continues an episode of the previous rollout starts from its recurrent state.
        carried = np.isin(flat_begins, np.arange(batch) * steps) & ~starts.T.reshape(-1)[flat_begins]

        device = encoded.device
        by_environment = encoded.transpose(0, 1).reshape(steps * batch, -1)
        padded = by_environment[torch.as_tensor(rows, device=device)]
        keep = torch.as_tensor(carried, device=device).unsqueeze(-1)
        owner = torch.as_tensor(flat_begins // steps, device=device)
        hidden = (state[0][owner] * keep).unsqueeze(0)
        cell = (state[1][owner] * keep).unsqueeze(0)
        features, _ = self.lstm(padded, (hidden, cell))
        back = torch.as_tensor(fragment * width + position, device=device)
        ordered: Tensor = features.reshape(-1, self.hidden)[back].reshape(batch, steps, -1)
        return ordered.transpose(0, 1)
