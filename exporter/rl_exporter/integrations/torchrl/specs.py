"""The heads of an action spec, and what TorchRL calls them."""

from __future__ import annotations

from typing import Any

from torchrl.data import Categorical, Composite, MultiCategorical, MultiOneHot, OneHot


def action_heads(environment: Any) -> dict[str, int]:
    """Names and numbers of choices for ``rl_exporter.serve``, from an environment or its action spec.

    A composite spec has one head for each categorical action, named as in ``TensorDict.flatten_keys``; other
    actions are left out. The head of a plain spec is ``action``; several of one spec are ``head_0``, ….
    Raises ValueError where there is none.
    """
    spec = getattr(environment, "action_spec", environment)
    if isinstance(spec, Composite):
        found = categorical_leaves(spec)
    else:
        sizes = _sizes(spec)
        found = {"action": sizes[0]} if len(sizes) == 1 else {f"head_{i}": n for i, n in enumerate(sizes)}
    if not found:
        raise ValueError(f"the action spec {type(spec).__name__} has no categorical action to measure")
    return found


def categorical_leaves(spec: Any) -> dict[str, int]:
    """Names and numbers of choices of the categorical actions of a composite spec."""
    leaves = spec.items(True, True) if isinstance(spec, Composite) else ()
    return {key_name(key): sizes[0] for key, leaf in leaves if len(sizes := _sizes(leaf)) == 1}


def key_name(key: str | tuple[str, ...]) -> str:
    """The name of a head from its key in a TensorDict, as ``flatten_keys`` writes it."""
    return key if isinstance(key, str) else ".".join(key)


def _sizes(spec: Any) -> list[int]:
    """Numbers of choices of one leaf; empty for actions that are not categorical."""
    if isinstance(spec, MultiCategorical | MultiOneHot):
        nvec = spec.nvec
        while nvec.ndim > 1:  # one row for each environment of a batch
            nvec = nvec[0]
        return [int(n) for n in nvec]
    if isinstance(spec, Categorical | OneHot):
        return [int(spec.space.n)]
    return []
