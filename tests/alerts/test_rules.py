"""The rules against promtool: they are valid, their tests pass, and their tests can fail."""

import math
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import yaml

from rl_exporter.health import CRITICAL_THRESHOLD, WARNING_THRESHOLD, Level, level
from tests.alerts import rule_cases as rule_tests
from tests.alerts.rule_cases.mutants import RULES, candidate_tests, mutants
from tests.support import ROOT

RULE_FILES = [ROOT / name for name in RULES]
TEXT = {path.name: path.read_text() for path in RULE_FILES}


def without_comments(text):
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def test_every_rule_file_is_listed():
    found = {*ROOT.glob("prometheus/rules/*"), *ROOT.glob("alerts/rules/*")}
    assert found == set(RULE_FILES)


def thresholds(text):
    return re.findall(r"(?<![\w.])0\.\d+", without_comments(text))


def test_the_thresholds_stand_once_and_equal_those_of_python():
    assert thresholds(TEXT["entropy.yml"]) == [str(CRITICAL_THRESHOLD), str(WARNING_THRESHOLD)]
    names = re.findall(
        r"record: \w+:rl_policy_entropy_threshold:(\w+)\s+expr: vector\((\S+)\)", TEXT["entropy.yml"]
    )
    assert dict(names) == {"critical": str(CRITICAL_THRESHOLD), "warning": str(WARNING_THRESHOLD)}
    for name in ("heads.yml", "training.yml", "monitoring.yml"):
        expressions = re.findall(r"expr: >-\n((?: {10,}.*\n)+)", TEXT[name])
        assert expressions
        assert [found for expression in expressions for found in thresholds(expression)] == []
    assert thresholds("expr: ratio <= 0.25\n# 0.5") == ["0.25"]


def test_rules_use_nothing_that_some_ruler_rejects():
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            assert group.keys() == {"name", "rules"}
            assert group["name"] == f"rl-{path.stem}"
            for rule in group["rules"]:
                assert rule.keys() <= {"alert", "record", "expr", "for", "labels", "annotations"}


RUN = "(cluster, namespace, run_id)"


def listed_labels(expression):
    """Label lists of joins and aggregations that name labels of a target."""
    return [found for found in re.findall(r"\b(?:on|by) (\([^)]*\))", expression) if found not in ("()", RUN)]


def test_rules_keep_whatever_labels_a_target_has():
    for text in TEXT.values():
        assert listed_labels(without_comments(text)) == []
    assert listed_labels("a * on (instance, job) b") == ["(instance, job)"]


def test_generated_tests_are_current():
    for name, text in rule_tests.files().items():
        assert (ROOT / "alerts/tests" / name).read_text() == text, "run: python -m tests.alerts.rule_cases"
    assert {path.name for path in (ROOT / "alerts/tests").iterdir()} == set(rule_tests.files())


def promtool_tests(promtool, *files):
    return subprocess.run([promtool, "test", "rules", *files], capture_output=True, text=True, check=False)


@pytest.mark.stack
def test_rules_are_valid(promtool):
    subprocess.run([promtool, "check", "rules", *RULE_FILES], check=True, capture_output=True)


@pytest.mark.stack
def test_rules_are_valid_for_vmalert(vmalert):
    for path in RULE_FILES:
        subprocess.run([vmalert, "-dryRun", f"-rule={path}"], check=True, capture_output=True)


def left_open(text):
    """Range selectors without their oldest instant, as Prometheus 3 reads them."""

    def shortened(found):
        parts = re.findall(r"(\d+)([smhd])", found[1])
        return f"[{1000 * sum(int(number) * UNITS[unit] for number, unit in parts) - 1}ms]"

    return re.sub(r"\[((?:\d+[smhd])+)\]", shortened, text)


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@pytest.mark.stack
@pytest.mark.parametrize("reading", [str, left_open], ids=["closed ranges", "left-open ranges"])
def test_every_alert_fires_and_stays_silent_as_promised(promtool, tmp_path, reading):
    for name in RULES:
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(reading((ROOT / name).read_text()))
    tests = shutil.copytree(ROOT / "alerts/tests", tmp_path / "alerts/tests")
    with ThreadPoolExecutor(2) as pair:
        for result in pair.map(lambda file: promtool_tests(promtool, file), sorted(tests.glob("*.yml"))):
            assert result.returncode == 0, result.stdout + result.stderr


def test_ranges_are_read_as_left_open():
    assert left_open("x[4m30s] offset 1m + y[1h]") == "x[269999ms] offset 1m + y[3599999ms]"


def fails(promtool, folder, text, changed=None):
    """Whether a test fails, on the rules as they are or with one changed."""
    for name in RULES:
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    if changed:
        (folder / changed.file).write_text(changed.text)
    test = folder / "alerts/tests/test.yml"
    test.parent.mkdir(exist_ok=True)
    test.write_text(text)
    result = promtool_tests(promtool, test)
    said = result.stdout + result.stderr
    assert result.returncode == 0 or "exp:" in said, said
    return result.returncode != 0


def killer(promtool, mutant, folder):
    return next((text for text in candidate_tests(mutant) if fails(promtool, folder, text, mutant)), None)


@pytest.mark.stack
@pytest.mark.slow
def test_every_fault_in_the_rules_is_found(promtool, tmp_path):
    every = list(mutants())
    faults = {re.sub(r" \(\d+\)", "", mutant.fault) for mutant in every}
    assert len(every) > 80
    assert {"<= becomes <", "0.25 becomes 0.2", "0.5 becomes 0.6", "a dropped for", "a dropped time to last",
            "another condition", "one condition less", "a dropped NaN guard", "a dropped join on the running state"} <= faults  # fmt: skip
    folders = [tmp_path / str(number) for number in range(len(every))]
    with ThreadPoolExecutor(2) as pair:
        found = list(pair.map(partial(killer, promtool), every, folders))
        assert [str(mutant) for mutant, text in zip(every, found, strict=True) if text is None] == []
        # What found them fails because of the fault: it passes on the rules as they are.
        texts = sorted(set(found))
        assert not any(pair.map(partial(fails, promtool), folders, texts))


@pytest.mark.stack
def test_a_level_is_exact_beside_each_threshold(promtool, tmp_path):
    """The generated tests round to six digits; here are the numbers next to each threshold."""
    ratios = [0.0, 1.0]
    for threshold in (CRITICAL_THRESHOLD, WARNING_THRESHOLD):
        ratios += [math.nextafter(threshold, 0), threshold, math.nextafter(threshold, 1)]
    name, number = "head:rl_policy_effective_entropy:level", list(Level)
    source = "rl_policy_head_choice_entropy_ratio"
    series = [{"series": f'{source}{{head="{place}"}}', "values": f"{r!r}x8"} for place, r in enumerate(ratios)]
    wanted = [
        {"labels": f'{name}{{head="{place}"}}', "value": number.index(level(r))}
        for place, r in enumerate(ratios)
    ]
    check = {"expr": name, "eval_time": "1m", "exp_samples": wanted}
    case = {"interval": "15s", "input_series": series, "promql_expr_test": [check]}
    path = tmp_path / "levels.yml"
    rules = [str(ROOT / "prometheus/rules/entropy.yml")]
    path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "15s", "tests": [case]}))
    assert promtool_tests(promtool, path).returncode == 0
    wanted[3]["value"] = 0
    path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "15s", "tests": [case]}))
    assert promtool_tests(promtool, path).returncode == 1
