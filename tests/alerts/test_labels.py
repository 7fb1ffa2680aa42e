"""Labels that only some series of a run have: how rules may join, and a ruler that adds labels to what it records."""

import promql_parser as promql
import pytest
import yaml

from rl_exporter.recorder import LINGER_SECONDS
from rl_exporter.server.scrapers import RECENT_SECONDS
from tests.alerts import rule_cases
from tests.alerts.promtool_runs import promtool_tests, write_test
from tests.alerts.rule_cases import intervals, labels
from tests.alerts.rule_cases.mutants import RULES
from tests.support import ROOT

TARGET = ("job", "instance", "cluster", "namespace")
RUN_OF_A_TARGET = (*TARGET, "run_id")
HEAD = (*RUN_OF_A_TARGET, "head")
RUN = ("cluster", "namespace", "run_id")
IDENTITIES = {TARGET, RUN_OF_A_TARGET, HEAD, RUN}
"""The only labels that a join or an aggregation names."""

RUNNING = "run:rl_training_run_state:running"


def kind(name):
    """Who gave a series its labels: relabelling sees the metric's name, run_id and head; a ruler adds its own."""
    if ":" in name or name.startswith("ALERTS"):
        return "recorded"
    if name.startswith("rl_policy_head_"):
        return "of a head"
    return "of a run" if name.startswith(("rl_policy_", "rl_training_")) else "of a target"


def kinds(node, faults):
    """The kinds of series whose labels an expression's result has; ``faults`` gets each join that may not hold."""
    if isinstance(node, promql.VectorSelector):
        return {kind(node.name or "")}
    if isinstance(node, promql.MatrixSelector):
        return kinds(node.vector_selector, faults)
    if isinstance(node, promql.Call):
        return set().union(*(kinds(argument, faults) for argument in node.args))
    if isinstance(node, promql.AggregateExpr):
        return aggregated(node, faults)
    if isinstance(node, promql.BinaryExpr):
        return joined(node, faults)
    return kinds(node.expr, faults) if hasattr(node, "expr") else set()


def aggregated(node, faults):
    inside = kinds(node.expr, faults)
    named = node.modifier is not None and "By" in str(node.modifier.type)
    if not named:
        return inside
    by = tuple(node.modifier.labels)
    if by not in IDENTITIES:
        faults.append(f"aggregates by {by}")
    return {by}


def joined(node, faults):
    left, right = kinds(node.lhs, faults), kinds(node.rhs, faults)
    if not left or not right:
        return left | right
    if (
        node.modifier is None
        or node.modifier.matching is None
        or "Include" not in str(node.modifier.matching.type)
    ):
        if len(left | right) > 1:
            faults.append(f"joins {sorted(map(str, left | right))} on the whole label set: {node}")
    else:
        named_join(node, left, right, faults)
    return left | right if "or" in str(node.op).lower() else left


def named_join(node, left, right, faults):
    on, card = tuple(node.modifier.matching.labels), str(node.modifier.card)
    if on not in IDENTITIES:
        faults.append(f"joins on {on}")
    if "OneToOne" in card:
        faults.append(f"drops all labels but those of the join: {node}")
    if "ManyToOne" in card and right != {on}:
        faults.append(f"has several series of replicas on its one side: {node}")
    if "OneToMany" in card:
        faults.append(f"takes its labels from the right: {node}")


def faults(expression):
    found = []
    kinds(promql.parse(expression), found)
    return found


def rules():
    for name in RULES:
        for group in yaml.safe_load((ROOT / name).read_text())["groups"]:
            yield from group["rules"]


def test_no_rule_joins_series_whose_labels_may_differ_on_the_whole_label_set():
    found = {rule.get("alert") or rule["record"]: faults(rule["expr"]) for rule in rules()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "expression",
    [
        "head:a:b > 0 and ignoring (head, state) rl_training_run_state == 1",
        "head:a:b + 10 * rl_policy_head_entropy_slope_ratio",
        "ALERTS and ignoring (alertname) rl_training_run_state",
        "rl_training_run_state and ignoring (run_id) up == 0",
        "rl_training_run_state unless ignoring (run_id, state) last_over_time(up[1m])",
        "rl_training_run_state * ignoring (run_id) group_left () rl_exporter_record_errors_total",
        "rl_policy_head_entropy_nats and ignoring (head, state) rl_training_run_state",
        "(rl_training_run_state or head:a:b) unless rl_training_run_state",
        "head:a:b <= on (job, instance, cluster, namespace, run_id, head) group_left () rl_policy_head_entropy_nats",
        "head:a:b <= on (run_id) group_left () max by (run_id) (rl_policy_head_entropy_nats)",
        "rl_training_run_state and on (instance) up",
        "rl_training_run_state == on (job, instance, cluster, namespace, run_id) rl_training_updates_total",
    ],
)
def test_a_join_that_may_not_hold_is_refused(expression):
    assert faults(expression)


def test_the_end_of_a_run_waits_for_two_scrapes_at_the_longest_interval():
    assert 2 * intervals.LONGEST + 20 < LINGER_SECONDS < RECENT_SECONDS


def by_a_ruler(text):
    """The rules as a ruler evaluates them that adds a label to all that it records, alerts' own series included."""
    document = yaml.safe_load(text)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["labels"] = {**rule.get("labels", {}), "monitor_cluster": "hub"}
    return yaml.safe_dump(document, sort_keys=False)


def result_with_a_ruler(promtool, folder, cases, change=str):
    changed = {name: by_a_ruler(change((ROOT / name).read_text())) for name in RULES}
    return promtool_tests(promtool, write_test(folder, rule_cases.rule_test_file(cases), changed))


@pytest.mark.stack
@pytest.mark.slow
def test_alerts_hold_where_a_ruler_adds_a_label_to_what_it_records(promtool, tmp_path):
    result = result_with_a_ruler(promtool, tmp_path, labels.for_a_ruler())
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.stack
def test_a_ruler_silences_an_alert_that_joins_both_kinds(promtool, tmp_path):
    """The fault that the test above guards against."""

    def mixed(text):
        on = f"and on ({', '.join(RUN_OF_A_TARGET)}) {RUNNING}"
        return text.replace(on, 'and ignoring (head, state) rl_training_run_state{state="running"} == 1')

    collapse = [case for case in labels.plain() if case.name == "collapsed, then completed"]
    assert result_with_a_ruler(promtool, tmp_path / "as it is", collapse).returncode == 0
    assert result_with_a_ruler(promtool, tmp_path / "mixed", collapse, mixed).returncode == 1
