"""The dashboard Compare: the same head of up to eight runs."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import timeseries

from rl_dashboards import layout, style, variables
from rl_dashboards.head_panels import NO_RATIO
from rl_dashboards.panels import range_query, state_timeline_panel, timeseries_panel
from rl_dashboards.queries import RATIO, RUN_KEY, head_selector, run_selector
from rl_dashboards.verdict_queries import verdicts_now

MOST = 8
"""Lines that can still be told apart."""

POINTS = 120
"""Steps of a graph. Each looks at the head in every selected run, before the eight are chosen."""

LEGEND = "{{run_id}} {{cluster}} {{namespace}}"


def dashboard() -> dict[str, Any]:
    """Build the dashboard."""
    verdicts = state_timeline_panel(
        "Verdict on $head",
        f"The verdict on the head in each run, over time. {_ABOUT}",
        NO_RATIO,
        range_query(_few(verdicts_now(RUN_KEY)), LEGEND),
    ).mappings([style.VERDICT_MAPPING])
    verdicts = verdicts.max_data_points(POINTS)
    panels: list[layout.Placed] = [
        (verdicts, 0, 0, 24, 9),
        (_lines("Effective ratio of $head", "1 uniform, 0 deterministic.", f"min by ({RUN_KEY}) ({RATIO})").min(0).max(1), 0, 9, 12, 9),
        (
            _head_lines("State information of $head", "Nats that the state explains; 0: it does the same whatever it sees.", "state_information_nats").unit("nats").min(0),
            12, 9, 12, 9,
        ),
        (_head_lines("Gradient norm of $head", "Before clipping, mean over the update.", "gradient_norm"), 0, 18, 12, 9),
        (
            _lines("Return", "Mean return of the last 100 finished episodes.", f"max by ({RUN_KEY}) ({run_selector('rl_training_episode_return')})"),
            12, 18, 12, 9,
        ),
    ]  # fmt: skip
    about = "The same head of up to eight runs, side by side: does what happens to it happen to the others?"
    return layout.build_dashboard(
        layout.COMPARE_UID, "RL Compare", about, panels, marked=False, more=[variables.one_head()]
    )


_ABOUT = f"Of more than {MOST} selected runs, those that began last."


def _few(expression: str) -> str:
    start = f"last_over_time({run_selector('rl_training_start_timestamp_seconds')}[$__range] @ end())"
    return f"({expression}) and on ({RUN_KEY}) topk({MOST}, max by ({RUN_KEY}) ({start}))"


def _lines(title: str, description: str, expression: str) -> timeseries.Panel:
    panel = timeseries_panel(title, f"{description} {_ABOUT}", NO_RATIO, range_query(_few(expression), LEGEND))
    return panel.decimals(3).max_data_points(POINTS)


def _head_lines(title: str, description: str, metric: str) -> timeseries.Panel:
    return _lines(title, description, f"max by ({RUN_KEY}) ({head_selector(f'rl_policy_head_{metric}')})")
