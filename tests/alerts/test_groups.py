"""Cases that share a promtool test group: none is lost, and none sees another."""

import re
from collections import Counter
from dataclasses import replace

import promql_parser as promql
import pytest
import yaml

from tests.alerts.promtool_runs import promtool_tests, write_test
from tests.alerts.rule_cases import SUBJECTS, rule_test_file, scrapes
from tests.alerts.rule_cases.case import OWN, Case, alert, ever, firing
from tests.alerts.rule_cases.groups import LOST, groups, part
from tests.alerts.rule_cases.mutants import RULES
from tests.alerts.rule_cases.notation import selector
from tests.alerts.rule_cases.simulation import ALWAYS_COLLAPSED, ALWAYS_HEALTHY, Run
from tests.support import ROOT

CASES = [case for cases in SUBJECTS.values() for case in cases()]
CLUSTER = re.compile(r'cluster="((?:[^"\\]|\\.)*)"')
WATCHDOG = "RLMonitoringWatchdog"


ALONE = {case.name for case in CASES if case.alone}


@pytest.fixture(scope="module")
def generated():
    """Every test group of the generated files."""
    texts = [path.read_text() for path in (ROOT / "alerts/tests").iterdir()]
    return [group for text in texts for group in yaml.load(text, yaml.CSafeLoader)["tests"]]


def selectors(node):
    """Every selector of an expression, each as the values of its labels that must be equal."""
    if isinstance(node, promql.VectorSelector):
        yield {one.name: one.value for one in node.matchers.matchers if one.op == promql.MatchOp.Equal}
    for inside in ("vector_selector", "expr", "lhs", "rhs"):
        if hasattr(node, inside):
            yield from selectors(getattr(node, inside))
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


def test_cases_differ_in_their_names():
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def samples(check):
    return [{"labels": selector("", labels) or "{}", "value": value} for labels, value in check.expected]


def expression(case, check):
    """The expression of a check in the generated files."""
    if case.alone:
        return check.expression.replace(f"{{{OWN}}}", "").replace(f", {OWN}", "")
    return check.expression.replace(OWN, selector("", {"cluster": case.name})[1:-1])


def differences(found, expected):
    """A few of the items that only one of two has. All of them would be too many to print."""
    found, expected = Counter(found), Counter(expected)
    assert expected.total() > 900
    return {"lost": [*(expected - found)][:3], "in excess": [*(found - expected)][:3]}


NONE = {"lost": [], "in excess": []}


def test_every_check_of_every_case_occurs_once(generated):
    found = (
        (check["expr"], check["eval_time"], str(check["exp_samples"]))
        for group in generated
        for check in group["promql_expr_test"]
        if LOST not in check["expr"]
    )
    expected = (
        (expression(case, check), f"{int(check.at)}s", str(samples(check)))
        for case in CASES
        for check in case.checks
    )
    assert differences(found, expected) == NONE
    whole = [alert for group in generated for alert in group.get("alert_rule_test", ())]
    assert whole == [alert for case in CASES for alert in case.alerts]


def owner(series, group):
    """The case that a series is of."""
    return group["name"] if group["name"] in ALONE else CLUSTER.search(series).group(1)


def without_cluster(series):
    return CLUSTER.sub("", series).replace(",,", ",").replace("{,", "{").replace(",}", "}")


@pytest.mark.slow
def test_every_sample_of_every_case_occurs_once(generated):
    """A shared group has the samples that its cases have alone, but for its label."""
    found = (
        (owner(series["series"], group), without_cluster(series["series"]), series["values"])
        for group in generated
        for series in group["input_series"]
    )
    expected = (
        (case.name, without_cluster(series), values)
        for case in CASES
        for series, values in {**scrapes.series(*case.runs, seconds=case.seconds), **case.extra}.items()
    )
    assert differences(found, expected) == NONE


def test_a_shared_check_looks_only_at_its_own_case(generated):
    for group in generated:
        for check in group["promql_expr_test"] if group["name"] not in ALONE else ():
            found = list(selectors(promql.parse(check["expr"])))
            clusters = {one.get("cluster") for one in found}
            about_none = clusters == {None} and {one["alertname"] for one in found} == {WATCHDOG}
            assert about_none or (len(clusters) == 1 and None not in clusters), check["expr"]


def test_what_the_label_of_a_group_would_change_is_alone():
    for case in CASES:
        clusters = {run.labels.get("cluster") for run in case.runs}
        named = any("cluster" in labels for check in case.checks for labels, _ in check.expected)
        assert case.alone or not (case.alerts or len(clusters) > 1 or named), case.name


def rules():
    for name in RULES:
        for group in yaml.safe_load((ROOT / name).read_text())["groups"]:
            yield from group["rules"]


def test_rules_do_not_care_which_cluster_it_is():
    """They only join on the label. So what a shared group shows of a case holds without the label, too."""
    for rule in rules():
        assert not [one for one in selectors(promql.parse(rule["expr"])) if "cluster" in one], rule["expr"]
        assert not re.search(r'"cluster"|cluster *[=!]', rule["expr"])


def test_every_alert_fires_without_a_cluster():
    (case,) = (case for case in CASES if case.name == "every alert without a cluster")
    names = {rule["alert"] for rule in rules() if "alert" in rule and "Monitoring" not in rule["alert"]}
    assert {labels["alertname"] for check in case.checks for labels, _ in check.expected} == names
    assert not any("cluster" in run.labels for run in case.runs)


_RUN = Run(policy=ALWAYS_HEALTHY, period=30)
PAGES = alert("RLPolicyHeadCollapsed", "op"), alert("RLPolicyHeadEntropyLow", "op")


def two(paging=PAGES, silent=()):
    """A case that pages and one that does not, of the same run at the same address, and what their checks expect."""
    return [
        Case(f"one that {what}", (replace(_RUN, policy=policy),), 600, (firing(600, *pages), ever(600, *pages)))
        for what, policy, pages in (("pages", ALWAYS_COLLAPSED, paging), ("is silent", ALWAYS_HEALTHY, silent))
    ]


def said(promtool, folder, cases, change=str):
    """What promtool prints about these cases; nothing where they pass."""
    changed = {name: change((ROOT / name).read_text()) for name in RULES}
    result = promtool_tests(promtool, write_test(folder, rule_test_file(cases), changed))
    return result.stdout + result.stderr if result.returncode else ""


@pytest.mark.stack
@pytest.mark.slow
def test_a_case_that_pages_neither_breaks_nor_mends_another(promtool, tmp_path):
    assert len(list(groups(map(part, two())))) == 1
    assert said(promtool, tmp_path, two()) == ""
    missed = said(promtool, tmp_path, two(paging=()))
    assert "one that pages" in missed
    assert "one that is silent" not in missed
    false = said(promtool, tmp_path, two(silent=PAGES))
    assert "one that is silent" in false
    assert "one that pages" not in false


@pytest.mark.stack
def test_a_rule_that_loses_the_label_of_a_group_is_found(promtool, tmp_path):
    def losing(text):
        return text.replace("min without (head)", "min by (run_id)")

    assert 'cluster=\\"\\"' in said(promtool, tmp_path, two(), losing)


def failing(promtool, folder, cases, change):
    """The names of the cases that promtool says fail."""
    found = said(promtool, folder, cases, change)
    if len(cases) == 1:
        return {case.name for case in cases if found}
    return {case.name for case in cases if f'cluster=\\"{case.name}\\"' in found}


@pytest.mark.stack
@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [(r"(Diluted|EntropyFallingFast)((?:\n.*)+?)\n        for: \w+", r"\1\2"), ("<= on", "< on")],
    ids=["for", "comparison"],
)
def test_cases_fail_together_as_they_fail_alone(promtool, tmp_path, fault):
    some = r"entropy at 0\.(25|5) exactly|^diluted|^falling for half"
    cases = [case for case in CASES if re.search(some, case.name)]

    def change(text):
        return re.sub(*fault, text)

    together = failing(promtool, tmp_path / "together", cases, change)
    alone = [failing(promtool, tmp_path / "alone", [case], change) for case in cases]
    assert together == set().union(*alone)
    assert 0 < len(together) < len(cases)
