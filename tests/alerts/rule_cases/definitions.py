"""The definitions of the verdict in plain arithmetic, written without the exporter's code."""

from __future__ import annotations


def explained(nats: float, entropy: float, open_share: float | None) -> float | None:
    """Share of the uncertainty that the state explains, from the mean entropy in nats over all steps."""
    if open_share == 0:
        return None
    uncertain = nats + entropy / (1 if open_share is None else open_share)
    return nats / uncertain if uncertain >= 1e-4 else None


def is_blind(nats: float | None, ratio: float | None) -> bool:
    """Whether a head takes no notice of the state, as far as is known."""
    return nats is None or nats < 0.02 or (ratio is not None and ratio < 0.1)


def blind_or_exception(updates: list[tuple[float, float | None]]) -> bool | None:
    """Whether a head is blind after the last of ten updates; None where their mean says so, but not that one."""
    nats = sum(nats for nats, _ in updates)
    uncertain = sum(nats / ratio if ratio else nats for nats, ratio in updates)
    over_all = uncertain == 0 or is_blind(nats / len(updates), nats / uncertain)
    return None if over_all and not is_blind(*updates[-1]) else is_blind(*updates[-1])


def state_of(r: float | None, g: float | None, blind: bool, uniform: bool, limits: tuple[float, float]) -> str:
    """State of a head; ``limits`` are the thresholds warning and critical."""
    warning, critical = limits
    if g is not None and not g <= 5:
        return "exploding"
    if r is None:
        return "deterministic"
    vanishing = g is not None and g < 0.01
    if r < 0.1:
        return "dead" if vanishing and blind and critical else "deterministic"
    if uniform:
        return "confused"
    return "unsettled" if r <= warning or vanishing else "healthy"


def slope(points: list[tuple[int, float]]) -> float | None:
    """Least-squares change per update of ratios, each with the number of its update."""
    if len(points) < 2:
        return None
    middle = sum(x for x, _ in points) / len(points)
    return sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)
