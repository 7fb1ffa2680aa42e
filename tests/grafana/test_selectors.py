"""What the queries of the dashboards select: metrics that exist, of the chosen runs, and nothing made up."""

import json
import re

import promql_parser as promql

from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from tests.support.dashboard_files import (
    BOARDS,
    ONE,
    ONE_RUN,
    ROOT,
    UIDS,
    every_board,
    expressions,
    filled,
    metrics,
    panels,
    targets,
)


def test_one_run_is_matched_by_its_name_and_several_by_a_pattern():
    """Grafana escapes the value of a variable for a pattern only where the variable may have several."""
    for uid, board in BOARDS.items():
        queries_of_board = " ".join(expression for _, expression in expressions(board))
        for name in ("cluster", "namespace", "run_id"):
            one = "${run_id:doublequote}" if name == "run_id" else f'"${name}"'
            assert (f"{name}={one}" in queries_of_board) is (uid in ONE_RUN), (uid, name)
            if (uid, name) != ("rl-pipeline", "run_id"):
                assert (f"{name}=~`${{{name}:regex}}`" in queries_of_board) is (uid not in ONE_RUN), (uid, name)


def test_no_count_of_a_fleet_or_of_a_run_is_made_up():
    """``or vector(0)`` is a zero also where there are no rules, no runs, or was no Prometheus yet."""
    for uid in UIDS - {"rl-pipeline"}:
        for where, expression in expressions(BOARDS[uid]):
            assert not expression.rstrip(")").endswith("or vector(0"), where
    for panel in panels(BOARDS["rl-pipeline"]):
        if panel["type"] == "timeseries":
            assert not [t["expr"] for t in panel["targets"] if "vector(0)" in t["expr"]], panel["title"]


def exported():
    families = {metric.name: metric.kind for metric in (*UPDATE_METRICS, *LIVE_METRICS)}
    return families | {name: kind for name, kind, *_ in SELF_METRICS}


def family(name):
    bare = re.sub(r"_(bucket|sum|count)$", "", name)
    return bare if bare in exported() else name


def recorded():
    rules = "".join(path.read_text() for path in sorted((ROOT / "prometheus/rules").glob("*.yml")))
    return set(re.findall(r"record: (\S+)", rules))


OTHERS = r"(prometheus|alertmanager|process|scrape)_\w+|up|ALERTS|ALERTS_FOR_STATE"


def unknown(names):
    known = set(exported()) | recorded()
    return {name for name in names if family(name) not in known and not re.fullmatch(OTHERS, name)}


@every_board
def test_every_metric_in_a_query_exists(uid):
    assert unknown(metrics(BOARDS[uid])) == set()
    assert unknown({"rl_policy_entropi_nats", "rl_training_updates_total"}) == {"rl_policy_entropi_nats"}


def call(expression, start):
    """A function call from where its name begins to its last bracket."""
    depth = 0
    for place, letter in enumerate(expression[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and not depth:
            return expression[start : place + 1]
    raise ValueError(f"no end: {expression[start:]}")


def absent_on_the_way(target):
    """What a graph says is absent at some time of its range, though it may be there at the end."""
    if target.get("instant"):
        return []
    found = (call(target["expr"], one.start()) for one in re.finditer(r"absent\w*\(", target["expr"]))
    return [one for one in found if "@ end()" not in one]


@every_board
def test_what_was_absent_before_a_run_began_is_not_said_beside_its_values(uid):
    assert [one for _, target in targets(BOARDS[uid]) for one in absent_on_the_way(target)] == []


def test_that_check_sees_a_range():
    missing = "-4 + 0 * absent(count(last_over_time(x[$__range])))"
    assert absent_on_the_way({"expr": missing}) != []
    assert absent_on_the_way({"expr": missing, "instant": True}) == []
    assert absent_on_the_way({"expr": missing.replace("]", "] @ end()")}) == []


def test_every_exported_metric_is_shown_somewhere():
    shown = {family(name) for board in BOARDS.values() for name in metrics(board)}
    assert set(exported()) - shown == set()


@every_board
def test_every_query_on_a_run_follows_the_variables(uid):
    offered = {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}
    names = sorted({"cluster", "namespace", "run_id"} & offered)
    assert {"cluster", "namespace"} <= set(names)
    assert "run_id" in names or uid == "rl-pipeline", "it shows targets, whatever their run"
    for where, expression in expressions(BOARDS[uid]):
        plain = re.sub(
            r"`\$\{(\w+):regex\}`", r'"$\1"', expression.replace("${run_id:doublequote}", '"$run_id"')
        )
        for selector in re.findall(r"(?:rl_policy|rl_training|rl_value|head:rl)\w*(?::\w+)*\{[^}]*\}", plain):
            for name in names:
                assert f'{name}{"=" if uid in ONE_RUN else "=~"}"${name}"' in selector, where


@every_board
def test_a_run_with_quotes_in_its_name_is_found(uid):
    """As Grafana fills in its name: every query is one, and selects the run by its true name."""
    for where, expression in expressions(BOARDS[uid]):
        whole = filled(expression, run_id="""the "old" one's""", cluster="lab", environment_metric="x")
        matcher = f"run_id{'=' if uid in ONE_RUN else '=~'}" + r""" "the \"old\" one's" """.strip()
        assert (matcher in str(promql.parse(whole).prettify())) is ("old" in whole), where


def test_what_environments_report_has_a_panel_for_each_name():
    board = BOARDS["rl-run"]
    (panel,) = [panel for panel in panels(board) if panel.get("repeat") == "environment_metric"]
    (target,) = panel["targets"]
    assert "$environment_metric" in panel["title"]
    reported = f'{{__name__=~"rl_environment_($environment_metric)", {ONE}}}'
    # Without the labels of the run, which would fill the legend.
    assert re.fullmatch(r"max without \([a-z_, ]+\) \((.*)\)", target["expr"])[1] == reported
    assert panel["fieldConfig"]["defaults"]["displayName"] == "$environment_metric ${__field.labels.__values}"
    assert target["legendFormat"] == "__auto", "labels are the environments'"
    (variable,) = [one for one in board["templating"]["list"] if one["name"] == "environment_metric"]
    pattern = re.compile(variable["regex"].strip("/"))
    assert pattern.match("rl_environment_modules_ratio")[1] == "modules_ratio"


def test_a_prometheus_without_rules_is_named_where_it_would_be_missed():
    for uid in ("rl-heads", "rl-fleet", "rl-pipeline"):
        for panel in panels(BOARDS[uid]):
            needed = [
                t["expr"]
                for t in panel["targets"]
                if "head:rl_policy" in t["expr"] or "prometheus_rule_group_rules" in t["expr"]
            ]
            if needed and panel["type"] in {"stat", "timeseries"}:
                said = json.dumps(
                    [
                        panel["fieldConfig"]["defaults"]["noValue"],
                        panel["fieldConfig"]["defaults"].get("mappings"),
                    ]
                )
                assert "rules loaded" in said, panel["title"]
