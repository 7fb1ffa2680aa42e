"""Panels of one quantity of every head over time: the evidence behind a verdict."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, timeseries
from grafana_foundation_sdk.models import common as options

from rl_dashboards import style
from rl_dashboards.panels import (
    dashed,
    heads_coloured,
    range_query,
    timeseries_panel,
    with_threshold_bands,
    with_thresholds,
)
from rl_dashboards.queries import RATIO, head_selector, in_order

NOT_YET = "not measured yet"
NO_INFORMATION = "not reported: the training loop passes no state information, or the head decided nothing"


NO_RATIO = "no run, no ratio yet, no rules loaded, or no answer from Prometheus"
"""Where no query can say which of them it is; the tiles and Pipeline tell them apart."""


def _ratio_panel(title: str, description: str, expression: str) -> timeseries.Panel:
    panel = timeseries_panel(
        title,
        description,
        NO_RATIO,
        range_query(in_order(expression), "{{head}}"),
        legend=("lastNotNull", "min"),
    )
    return heads_coloured(with_thresholds(panel).min(0).max(1).decimals(3))


def choice_entropy() -> timeseries.Panel:
    """Choice entropy, where the head decides, with the thresholds of the heads."""
    return _ratio_panel(
        "Choice entropy (where the head decides)",
        "Mean entropy relative to ln(valid choices), over the steps at which the head decided something; the effective "
        "ratio where the run reports none. Dashed: the heads' own thresholds, warning and critical. Low alone is no "
        "collapse: see the state information beside it. No line: no choice.",
        f"min by (head) ({head_selector('rl_policy_head_choice_entropy_ratio')}) or min by (head) ({RATIO})",
    )


def normalized_entropy() -> timeseries.Panel:
    """Normalized entropy, over all steps, with the thresholds of the heads."""
    return _ratio_panel(
        "Normalized entropy (over all steps)",
        "Entropy divided by its maximum ln(n), over every step. It reads low where masks leave little choice "
        "(dilution), and can read high while every real decision is deterministic: compare with choice entropy.",
        f"min by (head) ({head_selector('rl_policy_head_entropy_normalized_ratio')})",
    )


def state_information() -> timeseries.Panel:
    """State information: it tells learning from a collapse."""
    panel = timeseries_panel(
        "State information (does it look?)",
        "How much better the state explains what the head decides than the best fixed preference, in nats. 0: it does "
        "the same whatever it sees. Entropy that falls while this stays up is learning; with this at 0 it is a "
        "collapse.",
        NO_INFORMATION,
        range_query(
            in_order(f"min by (head) ({head_selector('rl_policy_head_state_information_nats')})"), "{{head}}"
        ),
        legend=("lastNotNull", "max"),
    )
    return heads_coloured(panel.unit("nats").decimals(3).min(0))


def state_share() -> timeseries.Panel:
    """State information as a share of what is uncertain."""
    panel = timeseries_panel(
        "Share of the uncertainty that the state explains",
        "State information divided by all that is uncertain about the action without a look at the state (Theil's U). "
        "1: the state says what the head does. Below 0.1 the head counts as blind, however much there is to decide. No "
        "line: nothing is uncertain, or nothing known.",
        NO_INFORMATION,
        range_query(
            in_order(f"min by (head) ({head_selector('rl_policy_head_state_information_ratio')})"), "{{head}}"
        ),
    )
    return heads_coloured(panel.min(0).max(1).decimals(2))


def actions() -> timeseries.Panel:
    """Shares of the actions of one head, stacked. One panel for each selected head."""
    panel = timeseries_panel(
        "What $head does",
        "Mean probability of each action over the steps at which the head decided something; the first of the list is "
        "the action that leads. One colour that fills the panel is an action that the head takes nearly always.",
        "not reported, or a head of too many actions to show",
        range_query(f"avg by (action) ({head_selector('rl_policy_head_action_ratio')})", "{{action}}"),
    )
    legend = common.VizLegendOptions().show_legend(True).placement(options.LegendPlacement.RIGHT)
    legend = legend.display_mode(options.LegendDisplayMode.TABLE).calcs(["lastNotNull"])
    panel = panel.legend(legend.sort_by("Last *").sort_desc(True))
    panel = panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    panel = panel.fill_opacity(70).line_width(0).unit("percentunit").decimals(0).min(0).max(1)
    panel = panel.color_scheme(style.colour_by_series())
    return panel.repeat("head").repeat_direction("h").max_per_row(2)


def margin() -> timeseries.Panel:
    """How certainly the advantages favour the leading action."""
    panel = timeseries_panel(
        "Is the head paid for what it does?",
        "Welch's t of the advantage margin: the advantage of the leading action less that of the others, over recent "
        "updates. Far above 0: the alternatives did worse. Far below 0: they did better, and the head still does not "
        "take them. No line: nothing to compare.",
        "not reported: the training loop passes no advantages, or nothing else was tried",
        range_query(
            in_order(f"min by (head) ({head_selector('rl_policy_head_advantage_margin_t_ratio')})"), "{{head}}"
        ),
    )
    return heads_coloured(panel.decimals(1))


def nats() -> timeseries.Panel:
    """Entropy in nats beside what counts as 1."""
    panel = timeseries_panel(
        "Entropy in nats (reference dashed)",
        "Raw mean entropy of each head; dashed, what counts as 1 for it: by default the entropy of a uniform choice, "
        "ln(n). Heads differ in it, so compare ratios, not nats.",
        NOT_YET,
        range_query(
            in_order(f"min by (head) ({head_selector('rl_policy_head_entropy_nats')})"), "{{head}}", "A"
        ),
        range_query(
            f"max by (head) ({head_selector('rl_policy_head_entropy_reference_nats')})",
            "{{head}} reference",
            "B",
        ),
    )
    return dashed(heads_coloured(panel.unit("nats").decimals(3).min(0)), "B", style.DIM)


def gradients() -> timeseries.Panel:
    """Gradient norms, with the bounds of vanishing and exploding."""
    panel = timeseries_panel(
        "Gradient norm of each head",
        "Norm of the head's own parameters' gradient before clipping, mean over the update. Below 0.01 the head learns "
        "nothing; above 5 it explodes. Below 0.1 entropy and below 0.01 gradient: dead, nothing pulls it back.",
        "no gradients reported: the training loop does not pass gradient norms",
        range_query(in_order(f"max by (head) ({head_selector('rl_policy_head_gradient_norm')})"), "{{head}}"),
    )
    scale = common.ScaleDistributionConfig().type(options.ScaleDistribution.LOG).log(10)
    panel = with_threshold_bands(panel, style.gradient_bands()).scale_distribution(scale).decimals(3)
    return heads_coloured(panel)


def importance() -> timeseries.Panel:
    """Largest importance ratios."""
    panel = timeseries_panel(
        "Largest importance ratio of each head",
        "Largest probability ratio between the updated policy and the one that acted, at a choice step. Far above "
        "1 + clip range: single steps move this head much; lower the learning rate or the number of epochs.",
        "no importance ratios reported",
        range_query(
            in_order(f"max by (head) ({head_selector('rl_policy_head_importance_ratio_max')})"), "{{head}}"
        ),
    )
    return heads_coloured(panel.decimals(2))
