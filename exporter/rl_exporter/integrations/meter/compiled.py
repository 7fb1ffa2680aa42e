"""``HeadMeter.add`` inside ``torch.compile``: one operator that the compiler does not look into.

It takes the tensors of a minibatch and gives none back, so that neither a graph break nor a recompilation
follows from it, and ``fullgraph=True`` holds. It writes to a counter of the meter; without such an effect a
compiler would remove it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rl_exporter.integrations.meter.head_meter import HeadMeter

_METERS: WeakValueDictionary[int, HeadMeter] = WeakValueDictionary()
"""Global, because an operator takes tensors and numbers only: a graph names its meter by number."""

_NUMBERS = count()


class Token(NamedTuple):
    """How a graph names a meter."""

    number: int
    counter: Tensor


def register(meter: HeadMeter) -> Token:
    """A number for a meter."""
    number = next(_NUMBERS)
    _METERS[number] = meter
    return Token(number, torch.zeros((), dtype=torch.int64))


def add(
    token: Token, names: Sequence[str], logits: Any, masks: Any, given: Mapping[str, Tensor | None]
) -> None:
    """Trace the call: flatten the arguments into tensors and a text that says which is which."""
    tensors: list[Tensor] = []
    form: list[str] = []
    for what, value in (("logits", logits), ("masks", masks), *given.items()):
        if value is None:
            continue
        parts = _parts(value, names)
        tensors.extend(parts)
        form.append(f"{what}:{len(parts) if isinstance(value, (list, tuple, Mapping)) else 0}")
    _add(token.counter, token.number, tensors, ",".join(form))


def _parts(value: Any, names: Sequence[str]) -> list[Tensor]:
    if isinstance(value, Mapping):
        value = [value[name] for name in names]
    several = value if isinstance(value, (list, tuple)) else [value]
    return [(one if isinstance(one, Tensor) else one.logits).detach() for one in several]


@torch.library.custom_op(
    "rl_exporter::head_meter_add",
    mutates_args=("counter",),
    # torch 2.6 cannot tell it from ``list[Tensor]``.
    schema="(Tensor(a!) counter, int meter, Tensor[] tensors, str form) -> ()",
)
def _add(counter: Tensor, meter: int, tensors: list[Tensor], form: str) -> None:
    """Hand the tensors to the meter, if it still exists."""
    counter.add_(1)
    found = _METERS.get(meter)
    if found is None:
        return
    given: dict[str, Any] = {}
    left = list(tensors)
    for part in form.split(","):
        what, length = part.split(":")
        given[what] = [left.pop(0) for _ in range(int(length))] if int(length) else left.pop(0)
    found.add_eagerly(given.pop("logits"), given.pop("masks", None), given)


@_add.register_fake
def _(counter: Tensor, meter: int, tensors: list[Tensor], form: str) -> None:
    """Nothing comes out."""
