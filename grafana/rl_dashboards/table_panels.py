"""The table panels: heads of a run, runs of the fleet with one cell for each head, firing alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    FieldTextAlignment,
    TableCellBackgroundDisplayMode,
    TableColoredBackgroundCellOptions,
)
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig, DynamicConfigValue

from rl_dashboards import queries, style
from rl_dashboards.panels import table_panel, table_query, transformation, with_overrides
from rl_dashboards.queries import (
    RATIO,
    RUN,
    RUN_KEY,
    head_selector,
    latest,
    latest_ratio,
    run_selector,
    worst_by,
)
from rl_exporter.health import CRITICAL_THRESHOLD, WARNING_THRESHOLD

Properties = Mapping[str, object]
EVERYTHING = "$__all"
COLOURED = TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.BASIC)
PLAIN: Properties = {"custom.cellOptions": {"type": "auto"}}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its name, its query, and the field properties."""

    name: str
    expression: str
    properties: Properties = field(default_factory=dict)


def _ratio_properties() -> Properties:
    return {"decimals": 3, "thresholds": style.level_thresholds().build(), "custom.cellOptions": COLOURED}


def _share_properties() -> Properties:
    return {"unit": "percentunit", "decimals": 0}


def _word_properties(mapping: object) -> Properties:
    return {"mappings": [mapping], "custom.cellOptions": COLOURED}


def _heads_columns() -> Sequence[Column]:
    def metric(name: str) -> str:
        return head_selector(f"rl_policy_head_{name}")

    nonfinite = latest(
        lambda read: f"max by (head) (sum without (kind) ({read(metric('nonfinite_values_total'))}))"
    )
    streak = metric("low_entropy_streak_updates").replace("}", f', threshold="{WARNING_THRESHOLD:g}"}}')
    return (
        Column(
            "state", latest(queries.head_state_codes), _with_width(_word_properties(style.STATE_MAPPING), 130)
        ),
        Column("choice entropy", latest_ratio(metric("choice_entropy_ratio")), _ratio_properties()),
        Column("normalized", worst_by("min", metric("entropy_normalized_ratio")), _ratio_properties()),
        Column("nats", worst_by("min", metric("entropy_nats")), {"decimals": 3}),
        Column("maximum", worst_by("max", metric("entropy_max_nats")), {"decimals": 3}),
        Column("choice steps", worst_by("min", metric("choice_steps_ratio")), _share_properties()),
        Column("open steps", worst_by("max", metric("open_steps_ratio")), _share_properties()),
        Column("slope", worst_by("min", metric("entropy_slope_ratio")), {"decimals": 4}),
        Column("low streak", worst_by("max", streak)),
        Column("state streak", worst_by("max", metric("state_streak_updates"))),
        Column("coefficient", worst_by("max", metric("entropy_coefficient")), {"decimals": 2}),
        Column("unmeasured", worst_by("max", metric("unmeasured_updates"))),
        Column("NaN or inf", nonfinite),
    )


def _joined(panel: Table, key: str, columns: Sequence[Column], labels: Sequence[str] = ()) -> Table:
    """Join all queries to one row for each ``key``. ``labels`` are label columns, placed before the numbers."""
    values = {f"Value #Q{place}": column for place, column in enumerate(columns)}
    places = {name: place for place, name in enumerate((key, *labels, *values))}
    panel = panel.with_transformation(transformation("joinByField", {"byField": key, "mode": "outer"}))
    panel = panel.with_transformation(transformation("organize", {"indexByName": places}))
    return with_overrides(
        panel, {name: {"displayName": c.name} | dict(c.properties) for name, c in values.items()}
    )


def _without_time() -> DataTransformerConfig:
    return transformation("filterFieldsByName", {"exclude": {"pattern": "^Time$"}})


def heads_table() -> Table:
    """Every number of every head, one row for each head."""
    columns = _heads_columns()
    panel = table_panel(
        "Heads in numbers",
        "Each ratio is coloured by its own level; choice entropy decides. choice steps: share of the steps at which "
        "the head decided; open steps: at which it could have. low streak: updates in a row at or below 0.5. slope: "
        "change of the ratio per update. coefficient: factor on the base entropy bonus. unmeasured above 0: what is "
        "shown is that many updates old. With several runs selected, the worst of them.",
        "no head: no run selected, or its target is not scraped",
        *(table_query(column.expression, f"Q{place}") for place, column in enumerate(columns)),
    ).with_transformation(_without_time())
    return with_overrides(_joined(panel, "head", columns), {"head": {"custom.width": 130}})


def _linked_to_run(columns: Sequence[Column]) -> Sequence[Column]:
    """A click on the column opens Heads for the run, with all its heads."""
    links = {"links": [_link_to_heads(EVERYTHING)]}
    return [replace(column, properties={**links, **column.properties}) for column in columns]


def _with_width(properties: Properties, width: int) -> Properties:
    return {**properties, "custom.width": width}


def _with_run_label(expression: str) -> str:
    """Add one label that identifies a run: joins in Grafana take a single field."""
    return f'label_join({expression}, "run", "/", "cluster", "namespace", "run_id")'


def _with_cluster_variable(expression: str) -> str:
    """Add a label with the value of the variable ``cluster`` for links: All for a run without a cluster.

    Not ``.*``, the value of All: in a link Grafana takes it for the name of a cluster. ``$$`` is an escaped
    ``$``.
    """
    everything = f'label_replace({expression}, "in_cluster", "${EVERYTHING}", "", "")'
    return f'label_replace({everything}, "in_cluster", "$1", "cluster", "(.+)")'


def _fleet_columns() -> Sequence[Column]:
    def by_run(expression: str) -> str:
        return f"max by (run) ({_with_run_label(expression)})"

    status = queries.run_phase()
    ratios = latest_ratio(RATIO, by=f"{RUN_KEY}, head")
    ended = f"(({status} > bool 0) * ({status} < bool {int(queries.RunPhase.FAILED)}))"
    in_trouble = f"({status} >= {int(queries.RunPhase.FAILED)}) * 0 + {CRITICAL_THRESHOLD:g}"
    in_order = f"{ratios} or {status} * 0 + 1 or " + f'label_replace({in_trouble}, "head", "none", "", "")'
    rank = f"min by ({RUN_KEY}) ({in_order}) + on ({RUN_KEY}) 10 * {ended}"
    critical = f'count by ({RUN_KEY}) (ALERTS{{{RUN}, alertstate="firing", severity="critical"}})'
    return (
        Column(
            "run is",
            _with_cluster_variable(_with_run_label(status)),
            _with_width(_word_properties(style.PHASE_MAPPING), 110),
        ),
        Column(
            "worst ratio",
            f"bottomk by (run) (1, min by (run, head) ({_with_run_label(ratios)}))",
            _with_width(_ratio_properties(), 85),
        ),
        Column("alerts", by_run(f"{critical} or {status} * 0"), _critical_alert_properties()),
        Column(
            "updates",
            by_run(worst_by("max", run_selector("rl_training_updates_total"), RUN_KEY)),
            _with_width(PLAIN, 70),
        ),
        Column(
            "last update",
            by_run(queries.seconds_since_update()),
            _with_width({**PLAIN, "unit": "s", "decimals": 0}, 85),
        ),
        Column("rank", by_run(rank), {"custom.hidden": True}),
    )


def _critical_alert_properties() -> Properties:
    steps = style.thresholds((None, style.TRANSPARENT), (1, style.RED)).build()
    nothing = style.value_mapping({0: ("-", style.TRANSPARENT)})
    return {"thresholds": steps, "mappings": [nothing], "custom.cellOptions": COLOURED, "custom.width": 60}


def _all_but(*names: str) -> str:
    """A pattern for all columns but these, that is, the columns of heads.

    On every column the words for levels would also replace small counts, such as two updates. Grafana matches
    the pattern with the original name of a column and with its display name.
    """
    return f"^(?!({'|'.join(dict.fromkeys(names))})$).*$"


def fleet_table() -> Table:
    """Every run, worst head first, with one cell for each head in the colour of its level."""
    columns = _linked_to_run(_fleet_columns())
    panel = table_panel(
        "Runs, worst head first",
        "One row per run, one cell per head, coloured by its level. alerts: critical ones that fire for the run, "
        "exploding gradients among them. Runs in trouble (failed, lost, stalled) stand behind those with a critical "
        "head; ended runs come last and show their last values within the time range. lost: last seen running and no "
        "longer scraped. A click on a cell opens Heads for that run and head.",
        "no run in this time range: is a trainer running, and its target listed? See Pipeline",
        *(table_query(column.expression, f"Q{place}") for place, column in enumerate(columns)),
        table_query(_with_run_label(queries.level_or_no_choice(f"{RUN_KEY}, head")), "L"),
    )
    cells = {"columnField": "head", "rowField": "run", "valueField": "Value #L", "emptyValue": "null"}
    panel = panel.with_transformation(_without_time())
    panel = panel.with_transformation(transformation("groupingToMatrix", cells, only="L"))
    panel = panel.with_transformation(transformation("organize", {"renameByName": {"run\\head": "run"}}))
    panel = _joined(panel, "run", columns, ("run_id", "cluster", "namespace", "head"))
    panel = panel.with_transformation(
        transformation("sortBy", {"sort": [{"field": f"Value #Q{len(columns) - 1}"}]})
    )
    named = {
        "run": {"custom.hidden": True},
        "in_cluster": {"custom.hidden": True},
        "run_id": _text_column("run", 190),
        "cluster": _text_column("cluster", 80),
        "namespace": _text_column("namespace", 80),
        "head": _text_column("worst head", 95, "${__data.fields.head:percentencode}"),
    }
    panel = panel.align(FieldTextAlignment.CENTER)
    panel = panel.override_by_regexp(
        _all_but(
            *named,
            *(str(column["displayName"]) for column in named.values() if "displayName" in column),
            *(column.name for column in columns),
            *(f"Value #Q{place}" for place in range(len(columns))),
        ),
        [
            DynamicConfigValue("mappings", [style.LEVEL_MAPPING]),
            DynamicConfigValue("links", [_link_to_heads("${__field.name:percentencode}")]),
            DynamicConfigValue("custom.cellOptions", COLOURED),
        ],
    )
    return with_overrides(panel, named)


def _text_column(name: str, width: int, head: str = EVERYTHING) -> Properties:
    properties = {"displayName": name, "custom.width": width, "custom.align": "left", **PLAIN}
    return properties | {"links": [_link_to_heads(head)]}


def _link_to_heads(head: str) -> model.DashboardLink:
    cluster, run = (f"${{__data.fields.{name}:percentencode}}" for name in ("in_cluster", "run_id"))
    variables = f"var-cluster={cluster}&var-run_id={run}&var-head={head}"
    url = f"/d/rl-heads?${{__url_time_range}}&${{datasource:queryparam}}&{variables}"
    return DashboardLink("Open in Heads").url(url).target_blank(False).build()


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
