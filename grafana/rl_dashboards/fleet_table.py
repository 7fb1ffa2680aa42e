"""The table of the dashboard Fleet: one row for each run, one cell for each head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import FieldTextAlignment
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from rl_dashboards import queries, style
from rl_dashboards.panels import table_panel, table_query, transformation, with_overrides
from rl_dashboards.queries import HEAD_KEY, RATIO, RUN, RUN_KEY, RunPhase, latest_ratio, run_selector, worst_by
from rl_dashboards.table_panels import (
    COLOURED,
    PLAIN,
    Column,
    Properties,
    joined,
    ratio_properties,
    with_width,
    without_time,
    word_properties,
)
from rl_dashboards.verdict_queries import Verdict, head_verdicts, verdict_or_no_choice

EVERYTHING = "$__all"


PLACES = {Verdict.COLLAPSED: 0, Verdict.LOW: 3, Verdict.HEALTHY: 5, Verdict.SETTLED: 7}
"""Where the heads of a verdict stand in Fleet, smallest first; within a verdict the ratio, at most 1, decides."""


IN_TROUBLE, UNJUDGED, ENDED = 2, PLACES[Verdict.SETTLED] + 1, 10
"""Where failed, lost and stalled runs stand; runs without a ratio; and how far behind all others ended runs do."""


def _linked_to_run(columns: Sequence[Column]) -> Sequence[Column]:
    """A click on the column opens Heads for the run, with all its heads."""
    links = {"links": [_link_to_heads(EVERYTHING)]}
    return [replace(column, properties={**links, **column.properties}) for column in columns]


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
    ratios = latest_ratio(RATIO, by=HEAD_KEY)
    places = f"(clamp_max({ratios}, 1) + on ({HEAD_KEY}) {head_verdicts(HEAD_KEY, PLACES)})"
    worst = f"bottomk by (run) (1, min by (run, head) ({_with_run_label(places)}))"
    worst_ratio = f"min by (run, head) ({_with_run_label(ratios)}) and on (run, head) {worst}"
    critical = f'count by ({RUN_KEY}) (ALERTS{{{RUN}, alertstate="firing", severity="critical"}})'
    return (
        Column(
            "run is",
            _with_cluster_variable(_with_run_label(status)),
            with_width(word_properties(style.PHASE_MAPPING), 110),
        ),
        Column(
            "worst ratio",
            worst_ratio,
            with_width({**PLAIN, **ratio_properties()}, 85),
        ),
        Column(
            "verdict",
            by_run(head_verdicts(RUN_KEY)),
            with_width(word_properties(style.VERDICT_MAPPING), 105),
        ),
        Column("alerts", by_run(f"{critical} or {status} * 0"), _critical_alert_properties()),
        Column(
            "updates",
            by_run(worst_by("max", run_selector("rl_training_updates_total"), RUN_KEY)),
            with_width(PLAIN, 70),
        ),
        Column(
            "last update",
            by_run(queries.seconds_since_update()),
            with_width({**PLAIN, "unit": "s", "decimals": 0}, 85),
        ),
        Column("rank", by_run(_rank(places, status)), {"custom.hidden": True}),
    )


def _rank(places: str, status: str) -> str:
    """Where each run stands, smallest first: as its worst head does, ended runs behind all others."""
    ended = f"(({status} > bool 0) * ({status} < bool {int(RunPhase.FAILED)}))"
    in_trouble = f"({status} >= {int(RunPhase.FAILED)}) * 0 + {IN_TROUBLE}"
    no_head = f'label_replace({in_trouble}, "head", "none", "", "")'
    in_order = f"{places} or {status} * 0 + {UNJUDGED} or {no_head}"
    return f"min by ({RUN_KEY}) ({in_order}) + on ({RUN_KEY}) {ENDED} * {ended}"


def _critical_alert_properties() -> Properties:
    steps = style.thresholds((None, style.TRANSPARENT), (1, style.RED)).build()
    nothing = style.value_mapping({0: ("-", style.TRANSPARENT)})
    return {"thresholds": steps, "mappings": [nothing], "custom.cellOptions": COLOURED, "custom.width": 60}


def _all_but(*names: str) -> str:
    """A pattern for all columns but these, that is, the columns of heads.

    On every column the words for verdicts would also replace small counts, such as two updates. Grafana matches
    the pattern with the original name of a column and with its display name.
    """
    return f"^(?!({'|'.join(dict.fromkeys(names))})$).*$"


def fleet_table() -> Table:
    """Every run, worst head first, with one cell for each head in the colour of its verdict."""
    columns = _linked_to_run(_fleet_columns())
    panel = table_panel(
        "Runs, worst head first",
        "One row per run, one cell per head: the verdict on it. Settled heads decide by the state, which is no failure. "
        "alerts: critical ones that fire for the run, exploding gradients among them. Runs in trouble (failed, lost, "
        "stalled) stand behind those with a collapsed head; ended runs come last and show their last values within the time range. lost: last seen running and no "
        "longer scraped. A click on a cell opens Heads for that run and head.",
        "no run in this time range: is a trainer running, and its target listed? See Pipeline",
        *(table_query(column.expression, f"Q{place}") for place, column in enumerate(columns)),
        table_query(_with_run_label(verdict_or_no_choice(HEAD_KEY)), "L"),
    )
    cells = {"columnField": "head", "rowField": "run", "valueField": "Value #L", "emptyValue": "null"}
    panel = panel.with_transformation(without_time())
    panel = panel.with_transformation(transformation("groupingToMatrix", cells, only="L"))
    panel = panel.with_transformation(transformation("organize", {"renameByName": {"run\\head": "run"}}))
    panel = joined(panel, "run", columns, ("run_id", "cluster", "namespace", "head"))
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
            DynamicConfigValue("mappings", [style.VERDICT_MAPPING]),
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
