"""The row of the entropy controller in Heads: what it aims at, what it does, and whether it still can."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import timeseries

from rl_dashboards import layout, style
from rl_dashboards.panels import dashed, heads_coloured, range_query, timeseries_panel
from rl_dashboards.queries import RATIO, head_selector, in_order

OFF = "no entropy controller is on"


def row(y: int) -> Sequence[layout.Placed]:
    """The panels below their heading. They have data only where a controller is on or observes."""
    heading = builders.Row("Entropy controller")
    return [
        (heading, 0, y, 24, 1),
        (_targets(), 0, y + 1, 12, 9),
        (_coefficients(), 12, y + 1, 12, 9),
        (_interventions(), 0, y + 10, 12, 8),
        (_saturated(), 12, y + 10, 12, 8),
    ]


def _targets() -> timeseries.Panel:
    target = f"max by (head) ({head_selector('rl_policy_head_entropy_target_ratio')})"
    panel = timeseries_panel(
        "Effective ratio and its target",
        "Effective ratio of each head that the controller looks after; dashed, the target that it steers the ratio to.",
        f"{OFF}, or no rules loaded",
        range_query(in_order(f"min by (head) ({RATIO}) and {target}"), "{{head}}", "A"),
        range_query(target, "{{head}} target", "B"),
    )
    return dashed(heads_coloured(panel.min(0).max(1).decimals(3)), "B", style.DIM)


def _coefficients() -> timeseries.Panel:
    panel = timeseries_panel(
        "Entropy coefficient as applied",
        "Coefficient of each head's entropy bonus in the loss: base times the head's multiplier, plus what the "
        "controller adds. Dashed, what a controller that only observes would have applied.",
        OFF,
        range_query(
            in_order(f"max by (head) ({head_selector('rl_policy_head_entropy_coefficient_applied')})"),
            "{{head}}",
            "A",
        ),
        range_query(
            in_order(f"max by (head) ({head_selector('rl_policy_head_entropy_coefficient_proposed')})"),
            "{{head}} proposed",
            "B",
        ),
    )
    return dashed(heads_coloured(panel.decimals(5).min(0)), "B", style.DIM)


def _interventions() -> timeseries.Panel:
    interventions = head_selector("rl_policy_head_interventions_total")
    panel = timeseries_panel(
        "Interventions",
        "How often the controller raised the coefficient of a head, or released it again, since the start of the run.",
        OFF,
        range_query(f"max by (head, direction) ({interventions})", "{{head}} {{direction}}"),
    )
    return panel.decimals(0).min(0).color_scheme(style.colour_by_name())


def _saturated() -> timeseries.Panel:
    panel = timeseries_panel(
        "Updates at the bound",
        "Consecutive updates for which the controller could not raise the coefficient any further. While this grows, "
        "the controller is out of means: RLPolicyControllerSaturated fires.",
        OFF,
        range_query(
            in_order(f"max by (head) ({head_selector('rl_policy_head_controller_saturated_updates')})"),
            "{{head}}",
        ),
    )
    return heads_coloured(panel.decimals(0).min(0))
