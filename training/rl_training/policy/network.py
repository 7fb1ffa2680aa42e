"""The policy, a recurrent trunk and a small module per head, and the critic, a trunk and a value head."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.action_space import BoolArray
from rl_training.policy.distributions import MaskedCategorical
from rl_training.policy.fragments import Fragments
from rl_training.policy.lockstep import LSTMState
from rl_training.policy.tanh import tanh
from rl_training.policy.trunk import RecurrentTrunk, Trunks
from rl_training.policy.value import PopArtValue


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
        rows = features.flatten(0, -2)
        # All heads as wide as the widest: one product instead of a loop. ``flat`` drops the unused columns.
        seen = rows.expand(len(self.bias_in), *rows.shape)
        hidden = tanh(torch.baddbmm(self.bias_in.unsqueeze(1), seen, self.weight_in))
        # Columns first, as the distributions want them.
        padded = torch.baddbmm(self.bias_out.unsqueeze(2), self.weight_out.mT, hidden.mT)
        columns = padded.flatten(0, 1).index_select(0, self.get_buffer("flat")).to(features.dtype)
        return torch.unflatten(columns, 1, features.shape[:-1]).movedim(0, -1)

    def gradient_norms(self) -> Tensor:
        """Norm of the gradient of each head's own parameters, (H,)."""
        gradients = [p.grad for p in self.parameters(recurse=False) if p.grad is not None]
        # The norm of the norms: to copy all gradients into one matrix would take longer.
        by_parameter = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(by_parameter), dim=0)
        return norms


class FactoredRecurrentActorCritic(nn.Module):
    """Actor and critic over recurrent trunks; one flat row of logits for all heads.

    The critic has a trunk of its own. With ``shared_critic`` it reads that of the actor, which its gradient
    then shapes, too, and where returns are large it shapes little else.

    With ``bfloat16``, autocast computes the products of encoders, head modules and value head in that
    precision, as the policy acts and as it learns, so that importance ratios begin at 1. Parameters, recurrent
    state, logits and values keep theirs, and so do distributions, losses, and gradients.
    """

    def __init__(
        self,
        observation_size: int,
        layout: HeadLayout,
        hidden: int = 64,
        *,
        shared_critic: bool = False,
        bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self._bfloat16 = bfloat16
        self.layout = layout
        self.hidden = hidden
        self.observation_size = observation_size
        self.actor = RecurrentTrunk(observation_size, hidden)
        self.heads = HeadModules(layout, hidden)
        self.critic = None if shared_critic else RecurrentTrunk(observation_size, hidden)
        self.value = PopArtValue(hidden)
        self._actor_alone = Trunks([self.actor])
        # After it: the last one decides where the parameters lie.
        self._trunks = Trunks([self.actor] if self.critic is None else [self.actor, self.critic])

    @property
    def shared_critic(self) -> bool:
        """Whether the critic reads the trunk of the actor."""
        return self.critic is None

    def initial_state(self, batch: int) -> LSTMState:
        """The recurrent state at the start of an episode: zeros, (batch, hidden of all trunks) each."""
        trunks = 1 if self.critic is None else 2
        zeros = self.actor.encoder.weight.new_zeros(batch, trunks * self.hidden)
        return zeros, zeros

    def step(self, observation: Tensor, state: LSTMState) -> tuple[Tensor, Tensor, LSTMState]:
        """Act for one step: observations (B, D) to logits (B, Σn), values (B,) and the next recurrent state.

        Without gradient: an update evaluates whole sequences.
        """
        with self._precision(observation.device):
            features, state = self._trunks.step(observation, state)
            return self.heads(features[0]), self.value(features[-1]), state

    def evaluate_actions(
        self,
        observations: Tensor,
        actions: Tensor,
        masks: Tensor,
        starts: BoolArray | Fragments,
        state: LSTMState,
    ) -> Evaluation:
        """Evaluate stored sequences under the masks that the policy sampled with.

        ``observations`` (T, B, D), ``actions`` (T, B, H), ``masks`` (T, B, Σn) bool. ``starts`` (T, B) is True
        where an episode begins, so that the recurrent state is zero there, or they are the fragments that
        follow from this; ``state`` is the one before t = 0.
        """
        fragments = starts if isinstance(starts, Fragments) else Fragments.of(starts, observations.device)
        with self._precision(observations.device):
            features = self._trunks.sequences(observations, fragments, state)
            logits, values = self.heads(features[0]), self.value(features[-1])
        distribution = MaskedCategorical(logits, masks, self.layout, validate=False)
        return Evaluation(distribution.log_prob(actions), distribution, values, logits)

    def log_probs(
        self, observations: Tensor, actions: Tensor, masks: Tensor, starts: BoolArray, state: LSTMState
    ) -> Tensor:
        """Log-probabilities (T, B, H) of stored actions, for the arguments of ``evaluate_actions``.

        The trunk of the critic has no part in them, and is left out.
        """
        hidden, cell = (part[:, : self.hidden] for part in state)
        fragments = Fragments.of(starts, observations.device)
        with self._precision(observations.device):
            (features,) = self._actor_alone.sequences(observations, fragments, (hidden, cell))
            logits = self.heads(features)
        return MaskedCategorical(logits, masks, self.layout, validate=False).log_prob(actions)

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self._bfloat16 else nullcontext()
