"""What an environment, or a wrapper around it, declares: the names of its heads and actions, and its masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from rl_exporter.heads import Head, Heads
from rl_training.action_space import BoolArray

_LOG = logging.getLogger("rl_training")


class EnvironmentSetupError(ValueError):
    """An environment that the trainer cannot use; the message names it, the reason and the remedy."""


def declared(env: gymnasium.Env[Any, Any], name: str) -> Any:
    """What the outermost wrapper that has the attribute says, or the environment; None where none has it.

    Raises EnvironmentSetupError where looking it up fails.
    """
    try:
        return env.get_wrapper_attr(name)
    except AttributeError:
        return None
    except Exception as error:
        raise EnvironmentSetupError(f"{name} raised {reason_of(error)}") from error


def declared_heads(env: gymnasium.Env[Any, Any], sizes: Sequence[int], names: Sequence[str] | None) -> Heads:
    """Heads of these sizes with ``names``, where None stands for ``head_names`` of the environment.

    ``action_names`` of the environment maps heads to the names of their actions. Raises EnvironmentSetupError.
    """
    if names is None:
        given = declared(env, "head_names")
        names = [f"head_{index}" for index in range(len(sizes))] if given is None else _names(given, len(sizes))
    actions = _action_names(env, names)
    try:
        return Heads(
            [
                Head(name, int(size), actions=actions.get(name, ()))
                for name, size in zip(names, sizes, strict=True)
            ]
        )
    except ValueError as error:
        raise EnvironmentSetupError(str(error)) from error


def _action_names(env: gymnasium.Env[Any, Any], heads: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The names of actions by head. What is meant for somebody else is left out, and the log says so."""
    try:
        given = declared(env, "action_names")
    except EnvironmentSetupError as error:
        _LOG.warning("%s; actions have no names", error)
        return {}
    if given is None:
        return {}
    found = {}
    if isinstance(given, Mapping):
        for name in heads:
            if name in given:
                with suppress(TypeError):  # of what has no items
                    found[name] = tuple(map(str, given[name]))
        if len(found) == len(given):
            return found
    # Only names were wanted, which no training needs; and an environment may mean something else by the word.
    _LOG.warning(
        "action_names of the environment is %.200r; what is no mapping from %s to names of actions is left out",
        given,
        ", ".join(heads),
    )
    return found


def _names(given: Any, count: int) -> list[str]:
    names: list[str] = []
    if not isinstance(given, str):
        with suppress(TypeError):  # of what has no items
            names = [str(name) for name in given]
    if len(names) != count:
        raise EnvironmentSetupError(f"head_names is {given!r:.200}; give {count} names, one for each head")
    return names


def declared_masks(env: gymnasium.Env[Any, Any]) -> Callable[[], Any] | None:
    """``action_masks`` of the environment, None where it has none. Raises EnvironmentSetupError."""
    masks: Callable[[], Any] | None = declared(env, "action_masks")
    if masks is not None and not callable(masks):
        raise EnvironmentSetupError(
            f"action_masks is of type {type(masks).__name__}; make it a method that returns the masks"
        )
    return masks


def checked_masks(masks: Any, heads: Heads) -> BoolArray:
    """Masks of one copy: (Σn,), or (K, Σn) for K operations, whose rows agree on the first head.

    Raises EnvironmentSetupError for any others.
    """
    actions = sum(head.choices for head in heads)
    shapes = [(actions,), (heads[0].choices, actions)]
    try:
        array = np.asarray(masks)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.shape not in shapes or not (array.dtype == np.bool_ or _is_binary(array)):
        what = f"{array.dtype} of shape {array.shape}" if array.dtype != np.object_ else repr(masks)[:200]
        wanted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise EnvironmentSetupError(
            f"action_masks() returned {' '.join(what.split())}; "
            f"return booleans of shape {wanted}: all actions of {', '.join(heads.names)} in a row"
        )
    found = array.astype(np.bool_)
    operations = found[..., : heads[0].choices]
    # The policy samples the operation first, from any row: no row can say more of it than the others.
    if found.ndim > 1 and (operations != operations[0]).any():
        raise EnvironmentSetupError(
            f"rows of action_masks() differ in the actions of head {heads[0].name!r}, which are the "
            "operations; say in each row which of them are valid now"
        )
    return found


def require_a_choice(masks: BoolArray, heads: Heads) -> None:
    """Raise EnvironmentSetupError where masks of ``checked_masks`` allow a head no action, in any row.

    A row of an operation that is not valid is no exception: telemetry reads all rows.
    """
    ends = np.cumsum([head.choices for head in heads])
    for row, mask in enumerate(np.atleast_2d(masks)):
        for head, own in zip(heads, np.split(mask, ends[:-1]), strict=True):
            if own.any():
                continue
            what = f"action_masks() allows no action of head {head.name!r}"
            if masks.ndim == 1 or head is heads[0]:
                raise EnvironmentSetupError(f"{what}; allow one")
            operation = dict(enumerate(heads[0].actions)).get(row, str(row))
            raise EnvironmentSetupError(
                f"{what} in the row of operation {operation!r}; allow one, be the operation valid or not"
            )


def _is_binary(array: npt.NDArray[Any]) -> bool:
    """Whether numbers can be read as booleans."""
    return bool(array.dtype.kind in "iuf" and np.isin(array, (0, 1)).all())


def reason_of(error: BaseException) -> str:
    """An unexpected error, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")
