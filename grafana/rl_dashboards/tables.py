"""The tables: heads of a run, runs of the fleet with a cell per head, firing alerts."""

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
from rl_dashboards.panels import grid, overridden, rows, transform
from rl_dashboards.queries import RATIO, RUN, RUN_KEY, known, latest, per_head, per_run, worst
from rl_exporter.health import CRITICAL_THRESHOLD, WARNING_THRESHOLD

Properties = Mapping[str, object]
EVERYTHING = "$__all"
COLOURED = TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.BASIC)
PLAIN: Properties = {"custom.cellOptions": {"type": "auto"}}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: its name, its query, and how it looks."""

    name: str
    expression: str
    look: Properties = field(default_factory=dict)


def _ratio() -> Properties:
    return {"decimals": 3, "thresholds": style.levels().build(), "custom.cellOptions": COLOURED}


def _share() -> Properties:
    return {"unit": "percentunit", "decimals": 0}


def _words(mapping: object) -> Properties:
    return {"mappings": [mapping], "custom.cellOptions": COLOURED}


def _heads_columns() -> Sequence[Column]:
    def metric(name: str) -> str:
        return per_head(f"rl_policy_head_{name}")

    nonfinite = latest(
        lambda read: f"max by (head) (sum without (kind) ({read(metric('nonfinite_values_total'))}))"
    )
    streak = metric("low_entropy_streak_updates").replace("}", f', threshold="{WARNING_THRESHOLD:g}"}}')
    return (
        Column("state", latest(queries.head_states), _sized(_words(style.STATE_MAPPING), 130)),
        Column("choice entropy", known(metric("choice_entropy_ratio")), _ratio()),
        Column("normalized", worst("min", metric("entropy_normalized_ratio")), _ratio()),
        Column("nats", worst("min", metric("entropy_nats")), {"decimals": 3}),
        Column("maximum", worst("max", metric("entropy_max_nats")), {"decimals": 3}),
        Column("choice steps", worst("min", metric("choice_steps_ratio")), _share()),
        Column("open steps", worst("max", metric("open_steps_ratio")), _share()),
        Column("slope", worst("min", metric("entropy_slope_ratio")), {"decimals": 4}),
        Column("low streak", worst("max", streak)),
        Column("state streak", worst("max", metric("state_streak_updates"))),
        Column("coefficient", worst("max", metric("entropy_coefficient")), {"decimals": 2}),
        Column("unmeasured", worst("max", metric("unmeasured_updates"))),
        Column("NaN or inf", nonfinite),
    )


def _joined(panel: Table, key: str, columns: Sequence[Column], labels: Sequence[str] = ()) -> Table:
    """One row per ``key`` from all queries; ``labels`` are the label columns that stand before the numbers."""
    values = {f"Value #Q{place}": column for place, column in enumerate(columns)}
    places = {name: place for place, name in enumerate((key, *labels, *values))}
    panel = panel.with_transformation(transform("joinByField", {"byField": key, "mode": "outer"}))
    panel = panel.with_transformation(transform("organize", {"indexByName": places}))
    return overridden(panel, {name: {"displayName": c.name} | dict(c.look) for name, c in values.items()})


def _without_time() -> DataTransformerConfig:
    return transform("filterFieldsByName", {"exclude": {"pattern": "^Time$"}})


def heads_table() -> Table:
    """Every number of every head, one row each."""
    columns = _heads_columns()
    panel = grid(
        "Heads in numbers",
        "Each ratio is coloured by its own level; choice entropy decides. choice steps: share of the steps at which "
        "the head decided; open steps: at which it could have. low streak: updates in a row at or below 0.5. slope: "
        "change of the ratio per update. coefficient: factor on the base entropy bonus. unmeasured above 0: what is "
        "shown is that many updates old. With several runs selected, the worst of them.",
        "no head: no run selected, or its target is not scraped",
        *(rows(column.expression, f"Q{place}") for place, column in enumerate(columns)),
    ).with_transformation(_without_time())
    return overridden(_joined(panel, "head", columns), {"head": {"custom.width": 130}})


def _linked_to_run(columns: Sequence[Column]) -> Sequence[Column]:
    """A click on the column opens Heads for the run, with all its heads."""
    return [replace(column, look={"links": [_into_heads(EVERYTHING)], **column.look}) for column in columns]


def _sized(look: Properties, width: int) -> Properties:
    return {**look, "custom.width": width}


def _named(expression: str) -> str:
    """Each run with one label that tells it from all others."""
    return f'label_join({expression}, "run", "/", "cluster", "namespace", "run_id")'


def _linked(expression: str) -> str:
    """Each run with what the variable ``cluster`` is to be set to; All where it has none.

    Grafana takes ``.*`` in a link for the name of a cluster; ``$$`` is how a replacement spells ``$``.
    """
    everything = f'label_replace({expression}, "in_cluster", "${EVERYTHING}", "", "")'
    return f'label_replace({everything}, "in_cluster", "$1", "cluster", "(.+)")'


def _fleet_columns() -> Sequence[Column]:
    def by_run(expression: str) -> str:
        return f"max by (run) ({_named(expression)})"

    status = queries.run_status()
    ratios = known(RATIO, by=f"{RUN_KEY}, head")
    ended = f"(({status} > bool 0) * ({status} < bool {int(queries.Status.FAILED)}))"
    in_trouble = f"({status} >= {int(queries.Status.FAILED)}) * 0 + {CRITICAL_THRESHOLD:g}"
    in_order = f"{ratios} or {status} * 0 + 1 or " + f'label_replace({in_trouble}, "head", "none", "", "")'
    rank = f"min by ({RUN_KEY}) ({in_order}) + on ({RUN_KEY}) 10 * {ended}"
    critical = f'count by ({RUN_KEY}) (ALERTS{{{RUN}, alertstate="firing", severity="critical"}})'
    return (
        Column("run is", _linked(_named(status)), _sized(_words(style.STATUS_MAPPING), 110)),
        Column(
            "worst ratio", f"bottomk by (run) (1, min by (run, head) ({_named(ratios)}))", _sized(_ratio(), 85)
        ),
        Column("alerts", by_run(f"{critical} or {status} * 0"), _critical_alerts()),
        Column(
            "updates", by_run(worst("max", per_run("rl_training_updates_total"), RUN_KEY)), _sized(PLAIN, 70)
        ),
        Column("last update", by_run(queries.age()), _sized({**PLAIN, "unit": "s", "decimals": 0}, 85)),
        Column("rank", by_run(rank), {"custom.hidden": True}),
    )


def _critical_alerts() -> Properties:
    steps = style.thresholds((None, style.TRANSPARENT), (1, style.RED)).build()
    nothing = style.mapping({0: ("-", style.TRANSPARENT)})
    return {"thresholds": steps, "mappings": [nothing], "custom.cellOptions": COLOURED, "custom.width": 60}


def _none_of(*names: str) -> str:
    """A pattern for every other column: those of heads. Words for levels on all would also be said of two updates.

    Grafana matches it with the names that columns have from their queries, and with those that they are given.
    """
    return f"^(?!({'|'.join(dict.fromkeys(names))})$).*$"


def fleet_table() -> Table:
    """Every run, worst head first, and a cell per head coloured by its level."""
    columns = _linked_to_run(_fleet_columns())
    panel = grid(
        "Runs, worst head first",
        "One row per run, one cell per head, coloured by its level. alerts: critical ones that fire for the run, "
        "exploding gradients among them. Runs in trouble (failed, lost, stalled) stand behind those with a critical "
        "head; ended runs come last and show their last values within the time range. lost: last seen running and no "
        "longer scraped. A click on a cell opens Heads for that run and head.",
        "no run in this time range: is a trainer running, and its target listed? See Pipeline",
        *(rows(column.expression, f"Q{place}") for place, column in enumerate(columns)),
        rows(_named(queries.level_or_no_choice(f"{RUN_KEY}, head")), "L"),
    )
    cells = {"columnField": "head", "rowField": "run", "valueField": "Value #L", "emptyValue": "null"}
    panel = panel.with_transformation(_without_time())
    panel = panel.with_transformation(transform("groupingToMatrix", cells, only="L"))
    panel = panel.with_transformation(transform("organize", {"renameByName": {"run\\head": "run"}}))
    panel = _joined(panel, "run", columns, ("run_id", "cluster", "namespace", "head"))
    panel = panel.with_transformation(transform("sortBy", {"sort": [{"field": f"Value #Q{len(columns) - 1}"}]}))
    named = {
        "run": {"custom.hidden": True},
        "in_cluster": {"custom.hidden": True},
        "run_id": _text("run", 190),
        "cluster": _text("cluster", 80),
        "namespace": _text("namespace", 80),
        "head": _text("worst head", 95, "${__data.fields.head:percentencode}"),
    }
    panel = panel.align(FieldTextAlignment.CENTER)
    panel = panel.override_by_regexp(
        _none_of(
            *named,
            *(str(look["displayName"]) for look in named.values() if "displayName" in look),
            *(column.name for column in columns),
            *(f"Value #Q{place}" for place in range(len(columns))),
        ),
        [
            DynamicConfigValue("mappings", [style.LEVEL_MAPPING]),
            DynamicConfigValue("links", [_into_heads("${__field.name:percentencode}")]),
            DynamicConfigValue("custom.cellOptions", COLOURED),
        ],
    )
    return overridden(panel, named)


def _text(name: str, width: int, head: str = EVERYTHING) -> Properties:
    look = {"displayName": name, "custom.width": width, "custom.align": "left", **PLAIN}
    return look | {"links": [_into_heads(head)]}


def _into_heads(head: str) -> model.DashboardLink:
    cluster, run = (f"${{__data.fields.{name}:percentencode}}" for name in ("in_cluster", "run_id"))
    variables = f"var-cluster={cluster}&var-run_id={run}&var-head={head}"
    url = f"/d/rl-heads?${{__url_time_range}}&${{datasource:queryparam}}&{variables}"
    return DashboardLink("Open in Heads").url(url).target_blank(False).build()


def alerts_table(
    of: str, selector: str = RUN, labels: Sequence[str] = ("head", "run_id", "cluster", "namespace")
) -> Table:
    """The alerts that fire, for how long, and with which ``labels``."""
    order = ("severity", "alertname", "Value", *labels)
    panel = grid(
        "Alerts firing",
        f"Alerts of {of}, and for how long they have been firing. Each has a runbook that says what to do: "
        "rl-exporter pages serves them under /runbooks/.",
        f"no alert fires for {of}",
        rows(f"sort_desc({queries.firing(selector)})"),
    )
    panel = panel.with_transformation(
        transform("filterFieldsByName", {"include": {"pattern": f"^({'|'.join(order)})$"}})
    )
    places = {name: place for place, name in enumerate(order)}
    panel = panel.with_transformation(transform("organize", {"indexByName": places}))
    severities = {
        "critical": ("▲ critical", style.RED),
        "warning": ("◆ warning", style.YELLOW),
        "info": ("• info", style.BLUE),
    }
    return overridden(
        panel,
        {
            "severity": {
                "mappings": [style.mapping(severities)],
                "custom.cellOptions": COLOURED,
                "custom.width": 95,
            },
            "alertname": {"displayName": "alert", "custom.width": 235},
            "head": {"custom.width": 95},
            "run_id": {"displayName": "run", "custom.width": 160},
            "Value": {"displayName": "firing for", "unit": "s", "decimals": 0, "custom.width": 85},
        },
    )
