"""The tables: heads of a run, runs of the fleet with a cell per head, firing alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models.common import (
    TableCellBackgroundDisplayMode,
    TableColoredBackgroundCellOptions,
)
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from rl_exporter.health import WARNING_THRESHOLD
from source import looks, queries
from source.panels import grid, overridden, rows, transform
from source.queries import LEVEL, RATIO, RUN, RUN_KEY, known, latest, per_head, per_run, worst

COLOURED = TableColoredBackgroundCellOptions(mode=TableCellBackgroundDisplayMode.BASIC)
Properties = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: its name, its query, and how it looks."""

    name: str
    expression: str
    look: Properties = field(default_factory=dict)


def _ratio() -> Properties:
    return {"decimals": 3, "thresholds": looks.levels().build(), "custom.cellOptions": COLOURED}


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
        Column("state", latest(queries.head_states), _words(looks.STATE_MAPPING)),
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


def _named(expression: str) -> str:
    """Each run with one label that tells it from all others."""
    return f'label_join({expression}, "run", "/", "cluster", "namespace", "run_id")'


def _linked(expression: str) -> str:
    """Each run with what the variable ``cluster`` is to be set to; All where it has none."""
    everything = f'label_replace({expression}, "in_cluster", ".*", "", "")'
    return f'label_replace({everything}, "in_cluster", "$1", "cluster", "(.+)")'


def _fleet_columns() -> Sequence[Column]:
    def by_run(expression: str) -> str:
        return f"max by (run) ({_named(expression)})"

    status = queries.run_status()
    ratios = known(RATIO, by=f"{RUN_KEY}, head")
    ended = f"(({status} > bool 0) * ({status} < bool {int(queries.Status.FAILED)}))"
    rank = f"(min by ({RUN_KEY}) ({ratios}) or {status} * 0 + 1) + on ({RUN_KEY}) 10 * {ended}"
    return (
        Column("run is", _linked(_named(status)), _words(looks.STATUS_MAPPING)),
        Column("worst ratio", f"bottomk by (run) (1, min by (run, head) ({_named(ratios)}))", _ratio()),
        Column("updates", by_run(worst("max", per_run("rl_training_updates_total"), RUN_KEY))),
        Column("last update", by_run(queries.age()), {"unit": "s", "decimals": 0}),
        Column("rank", by_run(rank), {"custom.hidden": True}),
    )


def fleet_table() -> Table:
    """Every run, worst head first, and a cell per head coloured by its level."""
    columns = _fleet_columns()
    panel = grid(
        "Runs, worst head first",
        "One row per run, one cell per head, coloured by its level. Ended runs come last and show their last values "
        "within the time range; lost: last seen running and no longer scraped. A click on a cell opens Heads for that "
        "run and head.",
        "no run in this time range: is a trainer running, and its target listed? See Pipeline",
        *(rows(column.expression, f"Q{place}") for place, column in enumerate(columns)),
        rows(_named(known(LEVEL, "max", f"{RUN_KEY}, head")), "L"),
    )
    cells = {"columnField": "head", "rowField": "run", "valueField": "Value #L", "emptyValue": "null"}
    panel = panel.with_transformation(_without_time())
    panel = panel.with_transformation(transform("groupingToMatrix", cells, only="L"))
    panel = panel.with_transformation(transform("organize", {"renameByName": {"run\\head": "run"}}))
    panel = _joined(panel, "run", columns, ("run_id", "cluster", "namespace", "head"))
    panel = panel.with_transformation(transform("sortBy", {"sort": [{"field": f"Value #Q{len(columns) - 1}"}]}))
    panel = (
        panel.mappings([looks.LEVEL_MAPPING])
        .cell_options(COLOURED)
        .data_links([_into_heads("${__field.name}")])
    )
    named = {
        "run": {"custom.hidden": True},
        "in_cluster": {"custom.hidden": True},
        "run_id": _text("run", 230),
        "cluster": _text("cluster", 110),
        "namespace": _text("namespace", 110),
        "head": _text("worst head", 120),
    }
    return overridden(panel, named)


def _text(name: str, width: int) -> Properties:
    look = {"displayName": name, "custom.width": width, "custom.cellOptions": {"type": "auto"}}
    return look | {"links": [_into_heads("$__all").build()], "mappings": []}


def _into_heads(head: str) -> DashboardLink:
    variables = "var-cluster=${__data.fields.in_cluster}&var-run_id=${__data.fields.run_id}"
    url = f"/d/rl-heads?${{__url_time_range}}&${{datasource:queryparam}}&{variables}&var-head={head}"
    return DashboardLink("Open in Heads").url(url).target_blank(False)


def alerts_table(of: str, selector: str = RUN) -> Table:
    """The alerts that fire, and for how long."""
    order = ("severity", "alertname", "head", "run_id", "cluster", "problem", "instance", "Value")
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
        "critical": ("▲ critical", looks.RED),
        "warning": ("◆ warning", looks.YELLOW),
        "info": ("• info", looks.BLUE),
    }
    return overridden(
        panel,
        {
            "severity": {
                "mappings": [looks.mapping(severities)],
                "custom.cellOptions": COLOURED,
                "custom.width": 110,
            },
            "alertname": {"displayName": "alert", "custom.width": 260},
            "run_id": {"displayName": "run"},
            "Value": {"displayName": "firing for", "unit": "s", "decimals": 0},
        },
    )
