"""What a Stable-Baselines3 model says of its action heads, and whether they can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor, nn
from torch.distributions import Bernoulli

from rl_exporter.heads import MAXIMUM, Head, Heads
from rl_exporter.serving import declare_heads

ALGORITHMS = ("PPO", "A2C", "MaskablePPO")
"""Their loss evaluates every step of the rollout once an epoch, without padding."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a user says of the heads; the arguments of ``rl_exporter.serve``."""

    names: Sequence[str] | None = None
    thresholds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reference: str | float | Mapping[str, str | float] = MAXIMUM
    actions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def of_heads(self) -> bool:
        """Whether it says more than names."""
        return bool(self.thresholds or self.actions or self.reference != MAXIMUM)


def supported(model: BaseAlgorithm) -> OnPolicyAlgorithm:
    """The model, if its loss can be listened to; ValueError naming the remedy otherwise."""
    if not any(base.__name__ in ALGORITHMS for base in type(model).__mro__):
        raise ValueError(
            f"HeadEntropyCallback cannot measure {type(model).__name__}; use it with {', '.join(ALGORITHMS)} "
            "or a subclass, or feed rl_exporter.serve(...).record(...) yourself"
        )
    return cast(OnPolicyAlgorithm, model)


def require_every_rollout(callback: BaseCallback) -> None:
    """Raise ValueError inside a callback that hides rollouts from its child, such as EveryNTimesteps."""
    parent = callback.parent
    while parent is not None:
        if isinstance(parent, EventCallback):
            raise ValueError(
                f"HeadEntropyCallback inside {type(parent).__name__} sees no rollouts; "
                f"give learn() both: callback=[HeadEntropyCallback(), {type(parent).__name__}(...)]"
            )
        parent = parent.parent


def policy_heads(model: OnPolicyAlgorithm, declaration: Declaration, declared: Heads | None) -> Heads:
    """One head for each dimension of the action space, in order.

    The names of ``declaration``, or those of the recorder's ``declared`` heads, or the environment's
    ``head_names``, or ``head_0``, …; the one head of a Discrete space is ``action``. ValueError when they do
    not fit.
    """
    sizes, names = _sizes(model.action_space), declaration.names
    if declared is not None:
        if [head.choices for head in declared] != sizes or (names and tuple(names) != declared.names):
            raise ValueError(
                f"the recorder was declared with {_listed(declared)}, but the action space is "
                f"{model.action_space}, head_names {names and list(names)}; declare the recorder with its heads"
            )
        return declared
    chosen = names if names is not None else _environment_names(model)
    if chosen is None:
        single = isinstance(model.action_space, spaces.Discrete)
        chosen = ["action"] if single else [f"head_{index}" for index in range(len(sizes))]
    if len(chosen) != len(sizes):
        raise ValueError(
            f"head_names {list(chosen)} are {len(chosen)}, but the action space {model.action_space} has "
            f"{len(sizes)} heads; give one name each"
        )
    heads = Heads([Head(str(name), size) for name, size in zip(chosen, sizes, strict=True)])
    return declare_heads(
        dict(heads.sizes), {}, declaration.thresholds, declaration.reference, declaration.actions
    )


def _sizes(space: spaces.Space[object]) -> list[int]:
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return [int(size) for size in space.nvec]
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiBinary) and isinstance(space.n, int):
        return [2] * space.n
    raise ValueError(
        f"action space {space} has no categorical heads; HeadEntropyCallback needs MultiDiscrete, Discrete "
        "or MultiBinary"
    )


def _environment_names(model: OnPolicyAlgorithm) -> Sequence[str] | None:
    env = model.env
    # Names are not worth a run: adapters of other libraries answer here as they like, or lack the question.
    with suppress(Exception):
        # Asking a worker process for an attribute that it lacks ends the worker: has_attr first.
        if env is not None and env.has_attr("head_names"):
            return [str(name) for name in env.get_attr("head_names", indices=0)[0]]
    return None


def environment_id(model: OnPolicyAlgorithm) -> str:
    """Registered id of the environment; empty where it has none, or runs in another process."""
    with suppress(Exception):  # as above
        environments = getattr(model.env and model.env.unwrapped, "envs", None)
        return str(environments[0].spec.id) if environments else ""
    return ""


def head_logits(distribution: Distribution) -> list[Tensor]:
    """Logits (B, n) of each head, in order, as the policy's last forward pass left them."""
    found = _categoricals(distribution)
    if isinstance(found[0], Bernoulli):
        # One logit for each bit, that it is 1; the other action has the logit 0.
        bits: Tensor = found[0].logits
        return list(torch.stack([torch.zeros_like(bits), bits], -1).unbind(1))
    return [one.logits for one in found]


def head_masks(distribution: Distribution) -> list[Tensor] | None:
    """The valid actions (B, n) of each head, booleans; None without masks."""
    masks = [getattr(one, "masks", None) for one in _categoricals(distribution)]
    return None if any(one is None for one in masks) else cast(list[Tensor], masks)


def _categoricals(distribution: Distribution) -> list[Any]:
    # sb3-contrib's masked form of several heads keeps them in `distributions`, all others in `distribution`.
    found = getattr(distribution, "distributions", None) or distribution.distribution
    return found if isinstance(found, list) else [found]


def action_layer(model: OnPolicyAlgorithm, heads: Heads) -> nn.Linear | None:
    """The layer whose rows are the heads' own parameters; None where a policy has no such layer."""
    layer = getattr(model.policy, "action_net", None)
    binary = isinstance(model.action_space, spaces.MultiBinary)
    rows = len(heads) if binary else sum(head.choices for head in heads)
    if isinstance(layer, nn.Linear) and layer.out_features == rows and layer.weight.requires_grad:
        return layer
    return None


def _listed(heads: Heads) -> str:
    return ", ".join(f"{head.name} {head.choices}" for head in heads)
