"""The level of a head in the rules is that of the exporter, and pages that go by the level do."""

import math

import pytest
import yaml

from rl_exporter.alerting.rewriting import BY_LEVEL, PageOn
from rl_exporter.health import DEFAULT_THRESHOLDS, Level, Thresholds, level
from tests.alerts import rule_cases as rule_tests
from tests.alerts.promtool_runs import promtool_tests, write_test
from tests.alerts.rule_cases.case import Case, alert, ever, firing
from tests.alerts.rule_cases.mutants import RULES
from tests.alerts.rule_cases.simulation import Run, constant, decides
from tests.support import ROOT


def level_case(rows, name):
    """A rule test: heads with a reference of 1 nat and of their maximum, and the level that each has."""
    series, wanted = [], []
    for place, (ratio, limits) in enumerate(rows):
        for kind, source, reference in (
            ("own", "rl_policy_head_entropy_nats", 1),
            ("maximum", "rl_policy_head_choice_entropy_ratio", 2),
        ):
            head = f'head="{kind}-{place}"'
            series += [
                {"series": f"{source}{{{head}}}", "values": f"{ratio!r}x8"},
                {"series": f"rl_policy_head_entropy_reference_nats{{{head}}}", "values": f"{reference}x8"},
                {"series": f"rl_policy_head_entropy_max_nats{{{head}}}", "values": "2x8"},
            ]
            for word, limit in zip(limits._fields, limits, strict=True):
                labels = f'{{{head},level="{word}"}}'
                series.append(
                    {"series": f"rl_policy_head_entropy_threshold_ratio{labels}", "values": f"{limit!r}x8"}
                )
            wanted.append({"labels": f"{name}{{{head}}}", "value": list(Level).index(level(ratio, limits))})
    check = {"expr": name, "eval_time": "1m", "exp_samples": wanted}
    return {"interval": "15s", "input_series": series, "promql_expr_test": [check]}


@pytest.mark.stack
def test_a_level_is_exact_beside_each_threshold(promtool, tmp_path):
    """The generated tests round to some digits; here are the numbers next to each threshold."""
    rows = []
    for limits in (
        DEFAULT_THRESHOLDS,
        Thresholds(0.4, 0.2),
        Thresholds(0.7, 0.1),
        Thresholds(0, 0.3),
        Thresholds(0.3, 0),
    ):
        for threshold in limits:
            ratios = math.nextafter(threshold, -1), threshold, math.nextafter(threshold, 1), 0.0, 1.0
            rows += [(ratio, limits) for ratio in ratios if ratio >= 0]
    case = level_case(rows, "head:rl_policy_effective_entropy:level")
    path = tmp_path / "levels.yml"
    rules = [str(ROOT / "prometheus/rules/entropy.yml")]
    test = {"rule_files": rules, "evaluation_interval": "15s", "tests": [case]}
    path.write_text(yaml.safe_dump(test))
    result = promtool_tests(promtool, path)
    assert result.returncode == 0, result.stdout + result.stderr
    case["promql_expr_test"][0]["exp_samples"][2]["value"] += 1
    path.write_text(yaml.safe_dump(test))
    assert promtool_tests(promtool, path).returncode == 1


@pytest.mark.stack
def test_rules_that_page_on_the_level_page_for_a_head_that_decides_by_the_state(promtool, tmp_path):
    changed = {name: PageOn.LEVEL.rewritten((ROOT / name).read_text()) for name in RULES}
    both = "".join((ROOT / name).read_text() for name in RULES)
    assert all(verdict in both for verdict in BY_LEVEL)
    every = [case for period in (1.0, 30.0, 600.0) for case in by_level(period)]
    test = write_test(tmp_path, rule_tests.rule_test_file(every), changed)
    result = promtool_tests(promtool, test)
    assert result.returncode == 0, result.stdout + result.stderr


def by_level(period):
    """Heads that pages on the verdict leave alone, and a healthy one."""
    page, low = alert("RLPolicyHeadCollapsed", "op"), alert("RLPolicyHeadEntropyLow", "op")
    for ratio, alerts in ((0.1, (page, low)), (0.4, (low,)), (0.6, ())):
        run = Run(policy=constant(decides(ratio, 0.6)), period=period)
        met = max(run.update_time(3), run.update_time(1) + 60)
        checks = (ever(met - 1), firing(met + 120, *alerts))
        yield Case(f"{ratio} and deciding by the state, {period:g} s", (run,), met + 120, checks)
