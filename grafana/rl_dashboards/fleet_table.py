"""The table of the dashboard Fleet: one row for each run, one cell for each head, what pages on top."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import FieldTextAlignment
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from rl_dashboards import queries, style
from rl_dashboards.alert_queries import paging
from rl_dashboards.missing import NO_ANSWER, WATCHDOG, Missing
from rl_dashboards.panels import table_panel, table_query, transformation, with_overrides
from rl_dashboards.queries import RUN_KEY
from rl_dashboards.ranking import every_run, rank
from rl_dashboards.table_panels import (
    COLOURED,
    Column,
    Properties,
    joined,
    sorted_by,
    with_width,
    without_time,
    word_properties,
)
from rl_dashboards.verdict_queries import verdict_words
from rl_training.action_space import HEADS

EVERYTHING = "$__all"


def _with_run_label(expression: str) -> str:
    """Add one label that identifies a run: joins in Grafana take a single field."""
    return f'label_join({expression}, "run", "/", "cluster", "namespace", "run_id")'


def _with_cluster_variable(expression: str) -> str:
    """Add labels with the values of the variables ``cluster`` and ``namespace`` for links.

    An unset label gets the value of the option All, which Heads, where one cluster is chosen, takes for none.
    """
    for name in ("cluster", "namespace"):
        everything = f'label_replace({expression}, "in_{name}", "${EVERYTHING}", "", "")'
        expression = f'label_replace({everything}, "in_{name}", "$1", "{name}", "(.+)")'
    return expression


def _named_runs() -> str:
    """Every run with its name as people read it: with cluster and namespace where there are runs of several."""
    runs = every_run()
    several = f"count(count by (cluster, namespace) ({runs})) > 1"
    long = f'label_join({runs}, "name", " · ", "run_id", "cluster", "namespace")'
    return (
        f'(label_replace({long}, "name", "$1", "name", "(.+?)(?: · )+") and on () ({several})'
        f' or on ({RUN_KEY}) label_replace({runs}, "name", "$1", "run_id", "(.*)"))'
    )


def by_run(expression: str) -> str:
    """The largest value of each run, with the label ``run``."""
    return f"max by (run) ({_with_run_label(expression)})"


def _fleet_columns() -> tuple[Column, ...]:
    return (
        Column("named", _with_cluster_variable(_with_run_label(_named_runs())), {"custom.hidden": True}),
        Column("run is", by_run(queries.run_phase()), with_width(word_properties(style.PHASE_MAPPING), 110)),
        Column("pages", by_run(f"{paging()} or {_no_page()}"), _pages()),
        Column("rank", by_run(rank()), {"custom.hidden": True}),
    )


def _no_page() -> str:
    """0 for runs that do not page; the reason instead where no alert rules are loaded."""
    return f"0 * {every_run()} + on () group_left () (0 * max({WATCHDOG}) or vector({Missing.RULES}))"


def _pages() -> Properties:
    steps = style.thresholds((None, style.TRANSPARENT), (1, style.RED)).build()
    words = style.value_mapping({0: ("-", style.TRANSPARENT), -1: ("no rules", style.TRANSPARENT)})
    coloured = {"thresholds": steps, "mappings": [words], "custom.cellOptions": COLOURED}
    return {**coloured, "unit": "prefix:▲ ", "custom.width": 58}


def _head_cells() -> str:
    """The verdict on each head as a word: a cell shows its symbol, and the word where somebody points at it."""
    now = {verdict: look[0] for verdict, look in style.VERDICTS.items()}
    return _with_run_label(verdict_words(now, style.WHEN_IT_ENDED))


WIDTHS = {"^.{1,3}$": 48, "^.{4,5}$": 58, "^.{6,9}$": 80, "^.{10,12}$": 100}
"""Widths of the columns of heads, by the length of the name: no name is cut off, and eight fit 1280 pixels."""


def _all_but(*names: str) -> str:
    """A pattern for all columns but these, that is, the columns of heads.

    Grafana matches the pattern with the original name of a column and with its display name.
    """
    return f"^(?!({'|'.join(dict.fromkeys(names))})$).*$"


def fleet_table() -> Table:
    """Every run, what pages on top, with one cell for each head in the colour of its verdict."""
    columns = _fleet_columns()
    panel = table_panel(
        "Runs, what pages first",
        "One row per run, one cell per head: the verdict on it. ✱ exploding, ✖ dead, ▲ collapsed (these page), ◆ low, "
        "▽ starved, ■ settled: decides by the state, no failure, ● healthy, ◇ no choice; grey: when the run ended. "
        "pages: critical alerts that fire for the run. Order: runs that page, then by the worst verdict; failed and "
        "lost runs behind collapsed heads; ended runs come last and show their last values within the time range. "
        "lost: last seen running, no longer scraped. Point at a cell for its word; a click opens Heads for that run.",
        f"no run in this time range, or {NO_ANSWER}: see Pipeline",
        *(table_query(column.expression, f"Q{place}") for place, column in enumerate(columns)),
        table_query(_head_cells(), "L"),
    )
    cells = {"columnField": "head", "rowField": "run", "valueField": "verdict", "emptyValue": "null"}
    panel = panel.with_transformation(without_time())
    panel = panel.with_transformation(transformation("groupingToMatrix", cells, only="L"))
    panel = panel.with_transformation(transformation("organize", {"renameByName": {"run\\head": "run"}}))
    panel = joined(panel, "run", columns, ("name", "run_id", "cluster", "namespace"), HEADS.names)
    panel = panel.with_transformation(sorted_by(f"Value #Q{len(columns) - 1}"))
    hidden: Properties = {"custom.hidden": True}
    named: dict[str, Properties] = dict.fromkeys(
        ("run", "run_id", "cluster", "namespace", "in_cluster", "in_namespace"), hidden
    )
    named["name"] = {
        "displayName": "run",
        "custom.align": "left",
        "custom.cellOptions": {"type": "auto", "wrapText": True},
        "links": [_link_to_heads(EVERYTHING)],
    }
    others = _all_but(
        *named, *(c.name for c in columns), *(f"Value #Q{place}" for place in range(len(columns)))
    )
    panel = panel.align(FieldTextAlignment.CENTER).override_by_regexp(
        others,
        [
            DynamicConfigValue("mappings", [style.cell_mapping()]),
            DynamicConfigValue("links", [_link_to_heads("${__field.name:percentencode}")]),
            DynamicConfigValue("custom.cellOptions", COLOURED),
        ],
    )
    for pattern, width in WIDTHS.items():
        panel = panel.override_by_regexp(
            others.replace(".*$", pattern.removeprefix("^")), [DynamicConfigValue("custom.width", width)]
        )
    return with_overrides(panel, named)


def _link_to_heads(head: str) -> model.DashboardLink:
    cluster, namespace, run = (
        f"${{__data.fields.{name}:percentencode}}" for name in ("in_cluster", "in_namespace", "run_id")
    )
    variables = f"var-cluster={cluster}&var-namespace={namespace}&var-run_id={run}&var-head={head}"
    url = f"/d/rl-heads?${{__url_time_range}}&${{datasource:queryparam}}&{variables}"
    title = "Open in Heads" if head == EVERYTHING else "${__field.name}: ${__value.raw}"
    return DashboardLink(title).url(url).target_blank(False).build()
