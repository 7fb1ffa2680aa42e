"""The table panels: heads of a run, firing alerts; and what tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models.common import (
    TableCellBackgroundDisplayMode,
    TableColoredBackgroundCellOptions,
)
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from rl_dashboards import queries, style
from rl_dashboards.panels import table_panel, table_query, transformation, with_overrides
from rl_dashboards.queries import (
    LEVEL,
    RUN,
    head_selector,
    latest,
    latest_ratio,
    worst_by,
)
from rl_dashboards.verdict_queries import head_verdicts
from rl_exporter.health import Level

Properties = Mapping[str, object]
COLOURED = TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.BASIC)
PLAIN: Properties = {"custom.cellOptions": {"type": "auto"}}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, its query, and the field properties."""

    name: str
    expression: str
    properties: Properties = field(default_factory=dict)


def ratio_properties() -> Properties:
    """An entropy ratio, without a colour: Grafana's thresholds are the same for every row, those of heads are not."""
    return {"decimals": 3}


def _share_properties() -> Properties:
    return {"unit": "percentunit", "decimals": 0}


def word_properties(mapping: object) -> Properties:
    """A number shown as a word on its colour."""
    return {"mappings": [mapping], "custom.cellOptions": COLOURED}


def _heads_columns() -> Sequence[Column]:
    def metric(name: str) -> str:
        return head_selector(f"rl_policy_head_{name}")

    nonfinite = latest(
        lambda read: f"max by (head) (sum without (kind) ({read(metric('nonfinite_values_total'))}))"
    )

    def limit(level: Level) -> str:
        return latest(lambda read: queries.thresholds(level, read))

    return (
        Column(
            "state", latest(queries.head_state_codes), with_width(word_properties(style.STATE_MAPPING), 130)
        ),
        Column("verdict", head_verdicts(), with_width(word_properties(style.VERDICT_MAPPING), 100)),
        Column("level", latest_ratio(LEVEL, "max"), with_width(word_properties(style.LEVEL_MAPPING), 90)),
        Column("leading", queries.leading_actions(), _share_properties()),
        Column("state information", worst_by("min", metric("state_information_nats")), {"decimals": 3}),
        Column("margin", worst_by("min", metric("advantage_margin_ratio")), {"decimals": 2}),
        Column("margin t", worst_by("min", metric("advantage_margin_t_ratio")), {"decimals": 1}),
        Column("choice entropy", latest_ratio(metric("choice_entropy_ratio")), ratio_properties()),
        Column("normalized", worst_by("min", metric("entropy_normalized_ratio")), ratio_properties()),
        Column("nats", worst_by("min", metric("entropy_nats")), {"decimals": 3}),
        Column("maximum", worst_by("max", metric("entropy_max_nats")), {"decimals": 3}),
        Column("warning at", limit(Level.WARNING)),
        Column("critical at", limit(Level.CRITICAL)),
        Column("choice steps", worst_by("min", metric("choice_steps_ratio")), _share_properties()),
        Column("open steps", worst_by("max", metric("open_steps_ratio")), _share_properties()),
        Column("slope", worst_by("min", metric("entropy_slope_ratio")), {"decimals": 4}),
        Column("low streak", worst_by("max", metric("low_entropy_streak_updates"))),
        Column("state streak", worst_by("max", metric("state_streak_updates"))),
        Column("coefficient", worst_by("max", metric("entropy_coefficient")), {"decimals": 2}),
        Column("unmeasured", worst_by("max", metric("unmeasured_updates"))),
        Column("NaN or inf", nonfinite),
    )


def joined(panel: Table, key: str, columns: Sequence[Column], labels: Sequence[str] = ()) -> Table:
    """Join all queries to one row for each ``key``. ``labels`` are label columns, placed before the numbers."""
    values = {f"Value #Q{place}": column for place, column in enumerate(columns)}
    places = {name: place for place, name in enumerate((key, *labels, *values))}
    panel = panel.with_transformation(transformation("joinByField", {"byField": key, "mode": "outer"}))
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    return with_overrides(
        panel, {name: {"displayName": c.name} | dict(c.properties) for name, c in values.items()}
    )


def without_time() -> DataTransformerConfig:
    """Drop the time column that every query brings."""
    return transformation("filterFieldsByName", {"exclude": {"pattern": "^Time$"}})


def heads_table() -> Table:
    """Every number of every head, one row for each head."""
    columns = _heads_columns()
    panel = table_panel(
        "Heads in numbers",
        "verdict: collapsed and low heads do the same whatever they see; settled ones decide by the state. level: of "
        "the effective ratio alone. leading: the action taken most, and its share. margin, t: what that action is paid "
        "beside the others. choice steps: share of the steps at which the head decided; open steps: at which it could "
        "have. low streak: updates in a row at or below its warning threshold. slope: change of the ratio per update. "
        "coefficient: factor on the base entropy bonus. unmeasured above 0: what is shown is that many updates old. "
        "With several runs selected, the worst of them.",
        "no head: no run selected, or its target is not scraped",
        *(table_query(column.expression, f"Q{place}") for place, column in enumerate(columns)),
    ).with_transformation(without_time())
    panel = joined(panel, "head", columns, ("action",))
    return with_overrides(panel, {"head": {"custom.width": 110}, "action": {"custom.width": 110}})


def with_width(properties: Properties, width: int) -> Properties:
    """The same, in a column of fixed width."""
    return {**properties, "custom.width": width}


def alerts_table(
    of: str, selector: str = RUN, labels: Sequence[str] = ("head", "run_id", "cluster", "namespace")
) -> Table:
    """The firing alerts, for how long they have fired, and their ``labels``."""
    order = ("severity", "alertname", "Value", *labels)
    panel = table_panel(
        "Alerts firing",
        f"Alerts of {of}, and for how long they have been firing. Each has a runbook that says what to do: "
        "rl-exporter pages serves them under /runbooks/.",
        f"no alert fires for {of}",
        table_query(f"sort_desc({queries.firing_seconds(selector)})"),
    )
    panel = panel.with_transformation(
        transformation("filterFieldsByName", {"include": {"pattern": f"^({'|'.join(order)})$"}})
    )
    places = {name: place for place, name in enumerate(order)}
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    severities = {
        "critical": ("▲ critical", style.RED),
        "warning": ("◆ warning", style.YELLOW),
        "info": ("• info", style.BLUE),
    }
    return with_overrides(
        panel,
        {
            "severity": {
                "mappings": [style.value_mapping(severities)],
                "custom.cellOptions": COLOURED,
                "custom.width": 95,
            },
            "alertname": {"displayName": "alert", "custom.width": 235},
            "head": {"custom.width": 95},
            "run_id": {"displayName": "run", "custom.width": 160},
            "Value": {"displayName": "firing for", "unit": "s", "decimals": 0, "custom.width": 85},
        },
    )
