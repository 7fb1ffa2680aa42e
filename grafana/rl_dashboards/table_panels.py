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
from rl_dashboards.alert_queries import listed
from rl_dashboards.missing import NO_ANSWER
from rl_dashboards.panels import table_panel, table_query, transformation, with_overrides
from rl_dashboards.queries import (
    LEVEL,
    RATIO,
    RUN,
    head_selector,
    latest,
    latest_ratio,
    worst_by,
)
from rl_dashboards.verdict_queries import verdict_seconds, verdicts
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


def _metric(name: str) -> str:
    return head_selector(f"rl_policy_head_{name}")


def _verdict_columns() -> Sequence[Column]:
    return (
        Column("verdict", verdicts(), with_width(word_properties(style.VERDICT_MAPPING), 110)),
        Column(
            "state",
            latest(queries.head_state_codes),
            with_width({**PLAIN, "mappings": [style.STATE_MAPPING]}, 125),
        ),
        Column("level", latest_ratio(LEVEL, "max"), with_width(word_properties(style.LEVEL_MAPPING), 95)),
        Column("ratio", latest_ratio(RATIO), ratio_properties()),
        Column("leading", queries.leading_actions(), _share_properties()),
        Column("information", worst_by("min", _metric("state_information_nats")), {"decimals": 3}),
        Column("margin t", worst_by("min", _metric("advantage_margin_t_ratio")), {"decimals": 1}),
    )


def _entropy_columns() -> Sequence[Column]:
    def limit(level: Level) -> str:
        return latest(lambda read: queries.thresholds(level, read))

    return (
        Column("choice", latest_ratio(_metric("choice_entropy_ratio")), ratio_properties()),
        Column("normalized", worst_by("min", _metric("entropy_normalized_ratio")), ratio_properties()),
        Column("nats", worst_by("min", _metric("entropy_nats")), {"decimals": 3}),
        Column("maximum", worst_by("max", _metric("entropy_max_nats")), {"decimals": 3}),
        Column("warning at", limit(Level.WARNING)),
        Column("critical at", limit(Level.CRITICAL)),
        Column("slope", worst_by("min", _metric("entropy_slope_ratio")), {"decimals": 4}),
        Column("low streak", worst_by("max", _metric("low_entropy_streak_updates"))),
    )


def _decision_columns() -> Sequence[Column]:
    nonfinite = latest(
        lambda read: f"max by (head) (sum without (kind) ({read(_metric('nonfinite_values_total'))}))"
    )
    return (
        Column("choice steps", worst_by("min", _metric("choice_steps_ratio")), _share_properties()),
        Column("open steps", worst_by("max", _metric("open_steps_ratio")), _share_properties()),
        Column("margin", worst_by("min", _metric("advantage_margin_ratio")), {"decimals": 2}),
        Column("state streak", worst_by("max", _metric("state_streak_updates"))),
        Column("coefficient", worst_by("max", _metric("entropy_coefficient")), {"decimals": 2}),
        Column("unmeasured", worst_by("max", _metric("unmeasured_updates"))),
        Column("NaN or inf", nonfinite),
        Column("verdict for", verdict_seconds(), {"unit": "s", "decimals": 0}),
    )


def joined(
    panel: Table, key: str, columns: Sequence[Column], labels: Sequence[str] = (), after: Sequence[str] = ()
) -> Table:
    """Join all queries to one row for each ``key``. ``labels`` are placed before the numbers, ``after`` behind them."""
    values = {f"Value #Q{place}": column for place, column in enumerate(columns)}
    places = {name: place for place, name in enumerate((key, *labels, *values, *after))}
    panel = panel.with_transformation(transformation("joinByField", {"byField": key, "mode": "outer"}))
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    return with_overrides(
        panel, {name: {"displayName": c.name} | dict(c.properties) for name, c in values.items()}
    )


def without_time() -> DataTransformerConfig:
    """Drop the time column that every query brings."""
    return transformation("filterFieldsByName", {"exclude": {"pattern": "^Time$"}})


def head_tables() -> tuple[Table, Table, Table]:
    """Every number of every head, one row for each head: three tables, because one would not fit a screen."""
    return (
        _of_heads(
            "Heads: verdict and evidence",
            "verdict: collapsed and low heads do the same whatever they see; settled ones decide by the state. level: "
            "of the effective ratio alone. leading: the action taken most, and its share. information: nats that the "
            "state explains. margin t: how certainly the leading action is paid more than the others.",
            _verdict_columns(),
            ("action",),
        ),
        _of_heads(
            "Heads: entropy",
            "choice: entropy where the head decides; normalized: over all steps; both relative. maximum: ln n. warning "
            "at, critical at: the head's own thresholds. slope: change of the ratio per update. low streak: updates in "
            "a row at or below its warning threshold.",
            _entropy_columns(),
        ),
        _of_heads(
            "Heads: decisions and bookkeeping",
            "choice steps: share of the steps at which the head decided; open steps: at which it could have. margin: "
            "what the leading action is paid beside the others. coefficient: factor on the base entropy bonus. "
            "unmeasured above 0: what is shown is that many updates old.",
            _decision_columns(),
        ),
    )


def _of_heads(title: str, description: str, columns: Sequence[Column], labels: Sequence[str] = ()) -> Table:
    place = Column("place", latest(queries.positions), {"custom.hidden": True})
    columns = (*columns, place)
    panel = table_panel(
        title,
        description,
        f"no head: no run in this time range, or {NO_ANSWER}",
        *(table_query(column.expression, f"Q{number}") for number, column in enumerate(columns)),
    ).with_transformation(without_time())
    panel = joined(panel, "head", columns, labels)
    panel = panel.with_transformation(sorted_by(f"Value #Q{len(columns) - 1}"))
    return with_overrides(
        panel, {name: {"custom.width": 160 if name == "action" else 105} for name in ("head", *labels)}
    )


def sorted_by(field: str, only: str = "") -> DataTransformerConfig:
    """Rows in the order of a field, the smallest first."""
    return transformation("sortBy", {"sort": [{"field": field}]}, only=only)


def with_width(properties: Properties, width: int) -> Properties:
    """The same, in a column of fixed width."""
    return {**properties, "custom.width": width}


def alerts_table(
    of: str, selector: str = RUN, labels: Sequence[str] = ("head", "run_id", "cluster", "namespace")
) -> Table:
    """The firing alerts that notify, the most urgent first, for how long they have fired, and their ``labels``."""
    order = ("severity", "alertname", "Value", *labels)
    panel = table_panel(
        "Alerts firing",
        f"Alerts of {of} that notify, the most urgent first, of these the oldest, and for how long they have been "
        "firing. Left out: what Alertmanager inhibits because another alert explains it. Each has a runbook that says "
        "what to do: rl-exporter pages serves them under /runbooks/.",
        NO_ANSWER,
        table_query(listed(selector)),
    )
    panel = panel.with_transformation(sorted_by("urgency"))
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
    nothing: Properties = {"noValue": "-"}
    columns: dict[str, Properties] = {
        "severity": {
            "mappings": [style.value_mapping(severities)],
            "custom.cellOptions": COLOURED,
            "custom.width": 95,
        },
        "alertname": {"displayName": "alert", "custom.width": 260},
        "head": {"custom.width": 105},
        "run_id": {"displayName": "run"},
        "Value": {
            "displayName": "firing for",
            "unit": "s",
            "decimals": 0,
            "custom.width": 90,
            "mappings": [style.value_mapping({-1: ("-", style.TRANSPARENT)})],
        },
    }
    return with_overrides(panel, {name: {**nothing, **columns.get(name, {})} for name in order})
