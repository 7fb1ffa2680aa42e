"""A rollout: what the policy saw and did in parallel environments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_exporter.integrations.meter.layout import HeadLayout
from rl_training.action_space import BoolArray
from rl_training.policy.lockstep import LSTMState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """T steps of the N environments of one rank: D observed numbers, H heads, Σn actions, K operations.

    Shares, ``steps`` and ``episodes`` cover the environments of all ranks.
    """

    observations: Tensor  # (T, N, D)
    actions: Tensor  # (T, N, H)
    log_probs: Tensor  # (T, N, H)
    values: Tensor  # (T, N)
    rewards: Tensor  # (T, N)
    next_values: Tensor  # (T, N), value after the step: see ``generalized_advantages``
    ended: Tensor  # (T, N) bool, an episode ended with this step
    starts: BoolArray  # (T, N), an episode began with this step
    decision_masks: Tensor  # (T, N, Σn) bool
    step_masks: Tensor  # (T, N, Σn) bool; the same tensor where masks depend on no operation
    dependent_heads: tuple[int, ...]  # whose decision mask differs from the step mask at some choice step
    choice: Tensor  # (T, N, H) bool, choice steps
    log_valid_choices: Tensor  # (T, N, H), ln of the valid choices under the decision mask
    choice_share: tuple[float, ...]  # (H,)
    open_share: tuple[float, ...]  # (H,)
    masks: BoolArray  # (T, N, K, Σn), as the environment gave them; row k holds if the operation is k
    state: LSTMState  # before the first step
    steps: int
    episodes: int  # that ended in this rollout

    def evaluated_masks(self, layout: HeadLayout) -> Tensor:
        """The masks under which an update evaluates the policy, (T, N, Σn) bool.

        Decision masks at choice steps. Elsewhere a head has no part in the loss, so that its step mask serves
        there: the loss then computes the entropy that telemetry would compute a second time.
        """
        if self.step_masks is self.decision_masks:
            return self.decision_masks
        return torch.where(self.choice.index_select(-1, layout.segment), self.decision_masks, self.step_masks)
