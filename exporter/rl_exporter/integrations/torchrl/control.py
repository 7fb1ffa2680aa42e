"""A coefficient of the entropy bonus for each head of TorchRL's PPO losses."""

from __future__ import annotations

from collections.abc import Mapping

from torchrl.objectives import PPOLoss

Key = str | tuple[str, ...]


def entropy_coefficients(coefficients: Mapping[str, float]) -> dict[Key, float]:
    """What ``ClipPPOLoss(actor, critic, entropy_coeff=...)`` takes, from nats by head."""
    return {_entropy_key(name): float(nats) for name, nats in coefficients.items()}


def set_entropy_coefficients(loss: PPOLoss, coefficients: Mapping[str, float]) -> None:
    """Give a loss the coefficients of its next evaluations. It must have been made with one for each head.

    Raises ValueError for a loss with one coefficient for all heads, and for a head that it does not have.
    """
    # TorchRL takes the mapping when a loss is made and reads it at every evaluation; it offers no change.
    present = getattr(loss, "_entropy_coeff_map", None)
    if not isinstance(present, dict):
        raise ValueError(
            f"this {type(loss).__name__} has one entropy coefficient for all heads; make it with "
            "entropy_coeff=entropy_coefficients({head: nats, ...}), every head of its policy"
        )
    given = entropy_coefficients(coefficients)
    unknown = [name for name, key in zip(coefficients, given, strict=True) if key not in present]
    if unknown:
        raise ValueError(f"the loss has no entropy coefficient of {unknown}; it has those of {list(present)}")
    present.update(given)


def _entropy_key(name: str) -> Key:
    """The key under which a composite distribution keeps the entropy of a head."""
    *outer, leaf = name.split(".")
    return (*outer, f"{leaf}_entropy") if outer else f"{leaf}_entropy"
