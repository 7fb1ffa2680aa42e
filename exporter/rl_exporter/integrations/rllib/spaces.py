"""The heads of an RLModule: which of its logits and sampled actions belong to which categorical action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import tree
from gymnasium import spaces
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space
from torch import Tensor, nn

from rl_exporter.heads import Heads

Names = Sequence[str] | Mapping[str, Sequence[str]] | None
"""Names of the heads, in order; by module where there are several."""


def space_heads(space: spaces.Space[Any], names: Sequence[str] | None = None) -> Heads | None:
    """One head for each categorical action, in the order of the logits; None where one is not categorical.

    Without ``names`` a ``Discrete`` space has the head ``action``, a ``MultiDiscrete`` one ``head_0``, …, and
    the heads of a ``Dict`` have its keys. ValueError for names that do not fit.
    """
    sizes: dict[str, int] = {}
    for path, leaf in tree.flatten_with_path(get_base_struct_from_space(space)):
        choices = _choices(leaf)
        if choices is None:
            return None
        sizes.update(_named(path, choices, single=isinstance(leaf, spaces.Discrete)))
    if names is None:
        return Heads.of(sizes)
    if isinstance(names, str) or len(names) != len(sizes) or len(set(names)) != len(sizes):
        raise ValueError(
            f"head_names are {names!r}, but {space} has {len(sizes)} heads; give {len(sizes)} different names"
        )
    return Heads.of(dict(zip(names, sizes.values(), strict=True)))


def names_of(names: Names, module_id: str) -> Sequence[str] | None:
    """The names of one module's heads."""
    return names.get(module_id) if isinstance(names, Mapping) else names


def flat_actions(actions: Any, logits: Tensor) -> Tensor:
    """Sampled actions (…, H) from tensors (…) or (…, h), nested as the action space; logits (…, Σn)."""
    parts = [part if part.ndim == logits.ndim else part.unsqueeze(-1) for part in tree.flatten(actions)]
    return torch.cat([part.to(logits.device) for part in parts], -1).long()


def head_layer(module: RLModule, choices: int) -> nn.Linear | None:
    """The last layer of the module's ``pi`` if it has one row for each logit."""
    policy = getattr(module, "pi", None)
    layers = [layer for layer in policy.modules() if isinstance(layer, nn.Linear)] if policy is not None else []
    return layers[-1] if layers and layers[-1].out_features == choices else None


def _choices(leaf: Any) -> list[int] | None:
    if isinstance(leaf, spaces.Discrete):
        return [int(leaf.n)]
    if isinstance(leaf, spaces.MultiDiscrete):
        return [int(choices) for choices in leaf.nvec.ravel()]
    return None


def _named(path: tuple[Any, ...], choices: list[int], *, single: bool) -> dict[str, int]:
    if not path and single:
        return {"action": choices[0]}
    stem = "_".join(map(str, path if path and isinstance(path[0], str) else ("head", *path)))
    return {stem: choices[0]} if single else {f"{stem}_{index}": n for index, n in enumerate(choices)}
