"""The variables of the dashboards: which runs and heads they show."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from rl_dashboards import queries, ranking
from rl_dashboards.panels import DATASOURCE
from rl_dashboards.queries import RUN, environment_selector
from rl_exporter.environment_metrics import PREFIX

ALL = ".*"
"""Value of the variable option All. Unlike Grafana's default it also matches series without the label."""

RUN_ID = "${run_id:doublequote}"
"""The run of a dashboard about one run, as a string of PromQL. For ``"$run_id"`` Grafana's data source writes a quote
as \\\\' and a double quote as it is, so that such runs are not found; this format escapes the latter alone."""

Variables = Sequence[Builder[model.VariableModel]]


def _queried(name: str, label: str, query: str, description: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(
            {
                "qryType": 5 if query.startswith("query_result") else 1,
                "query": query,
                "refId": f"variable-{name}",
            }
        )
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def several(name: str, label: str, query: str, description: str) -> builders.QueryVariable:
    """A variable with several values, by default all."""
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    choice = _queried(name, label, query, description).multi(True).include_all(True).all_value(ALL)
    return choice.current(everything)


def _in_order_of_answer(variable: builders.QueryVariable, label: str) -> builders.QueryVariable:
    """Take the values of a label from a sorted answer, and keep its order. Grafana writes them without escaping."""
    return variable.sort(model.VariableSort.DISABLED).regex(f'/\\b{label}="(.*?)"(?:[,}}]|$)/')


def datasource() -> Builder[model.VariableModel]:
    """Which Prometheus."""
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _declared() -> str:
    """Query for the heads of the selected runs. It does not read the head that is selected: it would offer no other."""
    positions = queries.positions(queries.last, "head").replace(queries.HEAD, RUN)
    return f"query_result(sort({positions}))"


def heads() -> Builder[model.VariableModel]:
    """The heads of the selected runs, in the order in which the policy declares them."""
    variable = several("head", "Head", _declared(), "Action heads of the selected runs.")
    return _in_order_of_answer(variable, "head")


def of_targets() -> Variables:
    """Cluster and namespace of every target."""
    about = "Label of the scrape target; targets need not have it."
    return [
        datasource(),
        several("cluster", "Cluster", "label_values(rl_training_run_info, cluster)", about),
        several("namespace", "Namespace", "label_values(rl_training_run_info, namespace)", about),
    ]


def of_many_runs() -> Variables:
    """Cluster, namespace, run and head of every run."""
    where = f"{queries.chosen('cluster')}, {queries.chosen('namespace')}"
    runs = f"label_values(rl_training_run_info{{{where}}}, run_id)"
    return [
        *of_targets(),
        several("run_id", "Run", runs, "Runs with samples in the time range."),
        heads(),
    ]


def of_one_run() -> Variables:
    """One run, by default the first of Fleet, with its cluster and its namespace; and its heads."""
    ranked = ranking.rank().replace(RUN, 'run_id!=""').replace(queries.OF_HEAD, "")
    run = _queried(
        "run_id", "Run", f"query_result(sort({ranked}))", "One run. The first is the one that Fleet has on top."
    )
    labels = [
        _queried(
            name,
            name.capitalize(),
            f"label_values(rl_training_run_info{{run_id={RUN_ID}}}, {name})",
            "Label of the run's scrape target; empty for a run without it.",
        )
        for name in ("cluster", "namespace")
    ]
    return [datasource(), _in_order_of_answer(run, "run_id"), *labels, heads()]


def one_head() -> Builder[model.VariableModel]:
    """One head, to be compared between runs."""
    variable = _queried("head", "Head", _declared(), "The head that is compared.")
    return _in_order_of_answer(variable, "head")


def environment() -> builders.QueryVariable:
    """What the environments of the selected runs report, by names without their prefix."""
    names = f"label_values({environment_selector()}, __name__)"
    about = "Numbers that the environments of the selected runs report."
    return several("environment_metric", "Environment", names, about).regex(f"/{PREFIX}(.*)/")
