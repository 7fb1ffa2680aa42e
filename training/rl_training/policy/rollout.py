"""A rollout: what the policy saw and did in parallel environments, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl_training.action_space import BoolArray
from rl_training.policy.network import LSTMState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """T steps of the N environments of one rank.

    ``starts``: an episode begins here; ``ended``: one ended with this step. Shares, ``steps`` and ``episodes``
    are of the environments of all ranks.
    """

    observations: Tensor  # (T, N, D)
    actions: Tensor  # (T, N, H)
    log_probs: Tensor  # (T, N, H)
    values: Tensor  # (T, N)
    rewards: Tensor  # (T, N)
    next_values: Tensor  # (T, N)
    ended: Tensor  # (T, N) bool
    starts: BoolArray  # (T, N)
    decision_masks: Tensor  # (T, N, Σn) bool
    step_masks: Tensor  # (T, N, Σn) bool; the same tensor where masks depend on no operation
    choice: Tensor  # (T, N, H) bool
    log_valid_choices: Tensor  # (T, N, H), ln of the valid choices under the decision mask
    choice_share: tuple[float, ...]  # H
    open_share: tuple[float, ...]  # H
    masks: BoolArray  # (T, N, K, Σn), as the environment gave them
    state: LSTMState  # before the first step
    steps: int
    episodes: int
