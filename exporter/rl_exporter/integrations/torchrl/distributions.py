"""What the distribution of an actor says of its heads: logits, sampled actions, log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from tensordict.nn import CompositeDistribution
from torch import Tensor
from torch.distributions import Categorical, Independent
from torchrl.modules import MaskedCategorical

from rl_exporter.heads import Heads
from rl_exporter.integrations.meter.limits import MASKED
from rl_exporter.integrations.torchrl.specs import key_name

_TINY = torch.finfo(torch.float32).tiny


class Decisions(NamedTuple):
    """S steps of H heads, without graph."""

    logits: Tensor | dict[str, Tensor]
    """(…, Σn), (…, H, n), or (…, n) by head; -inf where a mask forbids an action."""
    masks: Tensor | dict[str, Tensor] | None
    """In the same form; None where no distribution has any, and the logits may show some."""
    actions: Tensor | None
    """(S, H) indices."""
    log_probs: Tensor | None
    """(S, H) of those actions."""
    steps: int
    complete: bool
    """The heads are all actions of the policy."""


def decisions(distribution: Any, sampled: TensorDictBase, action: Any, heads: Heads) -> Decisions:
    """From the distribution that the loss built; ``action`` is the key of the sampled actions in ``sampled``.

    Raises ValueError or TypeError, with the head, for what is not categorical.
    """
    if isinstance(distribution, CompositeDistribution):
        parts = _parts(distribution, heads)
        return _of_composite(parts, sampled, complete=len(parts) == len(distribution.dists))
    flat = head_logits(distribution)
    sizes = [head.choices for head in heads]
    if flat.numel() % sum(sizes):
        raise ValueError(
            f"logits have shape {tuple(flat.shape)}, but the heads have {sum(sizes)} choices together"
        )
    masks = flat != -torch.inf if _has_mask(distribution) else None
    given = None if isinstance(action, list) else sampled.get(action, None)
    return Decisions(flat, masks, *_decided(distribution, flat, given, sizes), flat.numel() // sum(sizes), True)


def _of_composite(parts: dict[str, tuple[Any, Any]], sampled: TensorDictBase, *, complete: bool) -> Decisions:
    logits = {name: head_logits(part) for name, (_, part) in parts.items()}
    masks = None
    if any(_has_mask(part) for _, part in parts.values()):
        masks = {
            name: logits[name] != -torch.inf if _has_mask(part) else _shown_mask(logits[name])
            for name, (_, part) in parts.items()
        }
    found = [
        _decided(part, logits[name], sampled.get(key, None), [logits[name].shape[-1]])
        for name, (key, part) in parts.items()
    ]
    actions, log_probs = (_joined(part) for part in zip(*found, strict=True))
    steps = next(iter(logits.values())).shape[:-1].numel()
    return Decisions(logits, masks, actions, log_probs, steps, complete)


def _joined(columns: Sequence[Tensor | None]) -> Tensor | None:
    known = [column for column in columns if column is not None]
    return torch.cat(known, 1) if len(known) == len(columns) else None


def _has_mask(distribution: Any) -> bool:
    return isinstance(getattr(distribution, "base_dist", distribution), MaskedCategorical)


def _shown_mask(logits: Tensor) -> Tensor:
    """What a policy that masks its own logits shows; a NaN hides nothing."""
    return ~(logits < logits.amax(-1, keepdim=True) - MASKED)


def head_logits(distribution: Any) -> Tensor:
    """Logits (…, n) or log-probabilities; -inf where the distribution has a mask."""
    if isinstance(distribution, Independent):
        return head_logits(distribution.base_dist)
    if isinstance(distribution, MaskedCategorical):
        return _masked_logits(distribution)
    probabilities = _given_probabilities(distribution)
    if probabilities is not None:
        # Not ``logits``: torch takes them from probabilities that it raises to 1e-7. A probability of 0 is no
        # mask.
        return probabilities.detach().clamp_min(_TINY).log()
    logits = getattr(distribution, "logits", None)
    if not isinstance(logits, Tensor):
        raise TypeError(f"{type(distribution).__name__} has no logits; only categorical heads are measured")
    return logits.detach()


def _given_probabilities(distribution: Any) -> Tensor | None:
    """The probabilities that a distribution was made of, if it was not made of logits."""
    own = vars(getattr(distribution, "_categorical", distribution))
    given = own.get("_param")  # both others exist once somebody asked for them
    return given if isinstance(given, Tensor) and given is own.get("probs") else None


def _masked_logits(distribution: MaskedCategorical) -> Tensor:
    logits: Tensor = distribution.logits.detach()
    mask: Tensor = distribution._mask  # noqa: SLF001 - ``mask`` refuses indices
    if mask.dtype == torch.bool:
        # ``neg_inf`` may be any number, which need not show that an action is not valid.
        return logits.masked_fill(~mask, -torch.inf)
    # With ``indices``, there is one logit for each valid action.
    every = logits.new_full((*logits.shape[:-1], distribution.num_samples), -torch.inf)
    return every.scatter_reduce(-1, mask.expand_as(logits).clamp_min(0), logits, "amax")


def _parts(distribution: CompositeDistribution, heads: Heads) -> dict[str, tuple[Any, Any]]:
    """Key and distribution of each head, by its name."""
    by_name = {key_name(key): (key, part) for key, part in distribution.dists.items()}
    for name in heads.names:
        if name not in by_name:
            raise ValueError(f"head {name!r} is no action of the policy; actions: {', '.join(by_name)}")
    return {name: by_name[name] for name in heads.names}


def _decided(
    distribution: Any, logits: Tensor, action: Tensor | None, sizes: Sequence[int]
) -> tuple[Tensor | None, Tensor | None]:
    """Indices and log-probabilities (S, H) of sampled actions, given as indices or one-hot."""
    if action is None:
        return None, None
    rows = logits.reshape(-1, sum(sizes)).float()
    if action.numel() == rows.numel() and rows.numel() != len(rows) * len(sizes):
        by_head = torch.split(action.reshape(-1, sum(sizes)), list(sizes), 1)
        indices = torch.stack([one_hot.to(torch.int8).argmax(1) for one_hot in by_head], 1)
    else:
        indices = action.detach().reshape(len(rows), len(sizes)).long()
    parts = torch.split(rows, list(sizes), 1) if len(sizes) > 1 else (rows,)
    if not isinstance(getattr(distribution, "base_dist", distribution), Categorical):
        parts = tuple(part.log_softmax(1) for part in parts)  # torch's Categorical has done so
    log_probs = [part.gather(1, indices[:, head : head + 1]) for head, part in enumerate(parts)]
    return indices, torch.cat(log_probs, 1) if len(log_probs) > 1 else log_probs[0]


def stored_log_probs(sampled: TensorDictBase, keys: Any, actions: Any, heads: Heads) -> Tensor | None:
    """Log-probabilities of the policy that acted, (S, H), or (S,) of all heads together; None: not stored."""
    if isinstance(keys, list):
        by_name: Mapping[str, Any] = dict(zip(map(key_name, actions), keys, strict=True))
        if any(name not in by_name for name in heads.names):
            return None
        parts = [sampled.get(by_name[name], None) for name in heads.names]
        return None if any(part is None for part in parts) else torch.stack([p.flatten() for p in parts], 1)
    stored = sampled.get(keys, None)
    return stored.detach() if isinstance(stored, Tensor) else None
