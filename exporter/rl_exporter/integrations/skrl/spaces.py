"""The heads of an action space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import spaces


def action_heads(environment: Any, head_names: Sequence[str] | None = None) -> dict[str, int]:
    """Names and numbers of choices for ``rl_exporter.serve``, from an environment, an agent or an action space.

    ``head_names`` default to those of the environment, else ``head_0``, …; the head of a Discrete space is
    ``action``. Raises ValueError for other spaces, and for names that are not one for each head.
    """
    space = getattr(environment, "action_space", environment)
    if isinstance(space, spaces.MultiDiscrete):
        sizes = [int(n) for n in space.nvec.flat]
        names = [f"head_{head}" for head in range(len(sizes))]
    elif isinstance(space, spaces.Discrete):
        sizes, names = [int(space.n)], ["action"]
    else:
        raise ValueError(f"the action space {space} has no heads; measured are MultiDiscrete and Discrete ones")
    given = list(head_names or getattr(environment, "head_names", None) or _wrapped_names(environment) or names)
    if len(given) != len(sizes):
        raise ValueError(f"{len(given)} head names for {len(sizes)} heads; give one for each")
    return dict(zip(given, sizes, strict=True))


def _wrapped_names(environment: Any) -> Sequence[str] | None:
    """The names that the environment within skrl's wrapper has."""
    try:
        wrapped = environment.unwrapped
        own: Sequence[str] | None = getattr(wrapped, "head_names", None) or wrapped.get_attr("head_names")[0]
    except Exception:  # noqa: BLE001 - a name is optional, and wrappers raise what they like
        return None
    return own
