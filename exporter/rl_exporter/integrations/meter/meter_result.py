"""What a meter measured in one update: the means of the heads, on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_exporter.integrations.meter.limits import WIDE
from rl_exporter.integrations.meter.result import HeadResults, head_results
from rl_exporter.integrations.meter.segments import Segments
from rl_exporter.integrations.meter.sums import ActionSums, FloatArray, UpdateSums


@dataclass(frozen=True, kw_only=True)
class MeterResult(HeadResults):
    """What one update measured of the heads."""

    clipped_share: float | None = None
    """Share of the steps whose importance ratio was outside the clip range."""
    empty_masks: Mapping[str, int] = field(default_factory=dict)
    """Steps whose mask allowed the head no action; such a head was not measured."""


def divided(
    sums: UpdateSums[FloatArray],
    counts: list[float],
    layout: Segments,
    advantages: ActionSums[Any],
    *,
    ratios: bool,
    masks: bool,
) -> MeterResult:
    """The means of one update, on the host.

    ``counts``, over all processes: of each head choice steps, open steps and steps whose mask allowed it
    nothing; then steps, actions that were not valid, and the steps of all epochs. ``advantages``: see
    ``head_results``. ``ratios``, ``masks``: whether the loop gave any.
    """
    names, heads = layout.names, len(layout.names)
    choice, opened, empty = (counts[start : start + heads] for start in range(0, 3 * heads, heads))
    steps, masked, every = counts[3 * heads :]
    # Where nothing was ever masked, shares and choice entropies would say the same as the entropies.
    told = steps > 0 and (masks or masked > 0)
    shares = [
        {name: n / steps for name, n in zip(names, part, strict=True)} if told else {}
        for part in (choice, opened)
    ]
    found = head_results(sums, layout, advantages, *shares)
    if not told:
        found["head_choice_entropy_history"] = {}
    empty_masks = {name: int(count) for name, count in zip(names, empty, strict=True) if count}
    for name in empty_masks:
        found["head_entropy_history"][name] = ()
    if layout.width > WIDE:
        shares_of = found.get("head_action_shares", {})
        found["head_action_shares"] = {name: own for name, own in shares_of.items() if len(own) <= WIDE}
        if masked:
            found["head_state_information"] = {}
    # Epochs may differ in their steps: a loop decides which steps it adds.
    clipped = float(sums.clipped_steps.sum()) / every if ratios and every else None
    return MeterResult(clipped_share=clipped, empty_masks=empty_masks, **found)
