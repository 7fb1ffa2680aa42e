"""The rules against promtool: they are valid, their tests pass, and their tests can fail."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import yaml

from rl_exporter.health import BLIND_BELOW, BLIND_RATIO_BELOW
from tests.alerts import rule_cases as rule_tests
from tests.alerts.promtool_runs import asserts_annotations, promtool_tests, write_test
from tests.alerts.rule_cases.mutants import RULES, candidate_tests, mutants, together
from tests.support import ROOT

RULE_FILES = [ROOT / name for name in RULES]
FOUND_BY = ROOT / "tests/alerts/rule_cases/found_by.json"
"""The case that found each fault the last time. It only saves time: without it, every case is tried in turn.
After a change of rules or cases: python -m pytest tests/alerts/test_rules.py --golden.
"""
TEXT = {path.name: path.read_text() for path in RULE_FILES}


def without_comments(text):
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def test_every_rule_file_is_listed():
    found = {*ROOT.glob("prometheus/rules/*"), *ROOT.glob("alerts/rules/*")}
    assert found == set(RULE_FILES)


def thresholds(text):
    return re.findall(r"(?<![\w.])0\.\d+", without_comments(text))


def expressions(text):
    return re.findall(r"expr: >-\n((?: {10,}.*\n?)+)", text)


def test_no_threshold_of_a_head_stands_in_the_rules():
    for name, text in TEXT.items():
        assert expressions(text), name
        assert [found for expression in expressions(text) for found in thresholds(expression)] == []
    assert thresholds("expr: ratio <= 0.25\n# 0.5") == ["0.25"]


def test_a_head_is_as_blind_to_the_rules_as_to_the_exporter():
    """The two numbers of the exporter that a rule repeats: no series tells them."""
    found = [re.findall(r"state_information_(\w+) (>=|<) 1 / (\d+)", text) for text in TEXT.values()]
    told = [(unit, sign, 1 / int(part)) for pairs in found for unit, sign, part in pairs]
    assert told == [("nats", ">=", BLIND_BELOW), ("ratio", "<", BLIND_RATIO_BELOW)]


def groups():
    return {path.stem: yaml.safe_load(path.read_text())["groups"] for path in RULE_FILES}


def test_rules_use_nothing_that_some_ruler_rejects():
    for stem, found in groups().items():
        for group in found:
            assert group.keys() <= {"name", "interval", "rules"}
            assert re.fullmatch(rf"rl-{stem}(-\w+)?", group["name"])
            for rule in group["rules"]:
                assert rule.keys() <= {"alert", "record", "expr", "for", "labels", "annotations"}


def slower(found):
    return [group for group in found if "interval" in group]


def awaited(found):
    """Rules of slower groups that an alert above info waits for, or whose alert one evaluation could open."""
    urgent = [
        rule
        for group in found
        for rule in group["rules"]
        if rule.get("labels", {}).get("severity") not in (None, "info")
    ]
    return [
        rule.get("alert") or rule["record"]
        for group in slower(found)
        for rule in group["rules"]
        if rule in urgent
        or ("record" in rule and any(rule["record"] in alert["expr"] for alert in urgent))
        or ("alert" in rule and lasts(rule) < seconds(group["interval"]))
    ]


def lasts(rule):
    """Seconds that the condition of an alert has lasted when it opens: recorded ones say so after a minute."""
    return seconds(rule.get("for", "0s")) + 60 * ("condition:sustained" in rule["expr"])


def seconds(duration):
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", duration))


def normal_states(every):
    """The groups of alerts of severity info: no page shares a group, and so its time, with them."""
    return {
        group["name"]
        for group in every
        for rule in group["rules"]
        if rule.get("labels", {}).get("severity") == "info"
    }


def test_nobody_waits_for_what_is_evaluated_less_often():
    every = [group for found in groups().values() for group in found]
    intervals = {group["name"]: group["interval"] for group in slower(every)}
    assert intervals == {"rl-entropy": "1m", "rl-heads-trends": "1m"}
    assert awaited(every) == []
    slow = [{**group, "interval": "2m"} for group in every]
    assert {
        "head:rl_policy_head_condition:sustained",
        "RLPolicyHeadCollapsed",
        "RLPolicyHeadEntropyRising",
        "RLPolicyHeadSettled",
    } <= set(awaited(slow))
    assert normal_states(every) == {"rl-heads-trends"}
    assert not {"head:rl_policy_effective_entropy:ratio", "RLPolicyHeadDiluted"} & set(awaited(slow))


@pytest.mark.slow
def test_generated_tests_are_current():
    files = rule_tests.files()
    for name, text in files.items():
        assert (ROOT / "alerts/tests" / name).read_text() == text, "run: python -m tests.alerts.rule_cases"
    assert {path.name for path in (ROOT / "alerts/tests").iterdir()} == set(files)


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
        return f"[{1000 * seconds(found[1]) - 1}ms{found[2]}]"

    return re.sub(r"\[((?:\d+[smhd])+)((?::\d+s)?)\]", shortened, text)


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@pytest.mark.stack
@pytest.mark.parametrize("reading", [str, left_open], ids=["closed ranges", "left-open ranges"])
def test_every_alert_fires_and_stays_silent_as_promised(promtool, tmp_path, reading):
    rules = {name: reading((ROOT / name).read_text()) for name in RULES}
    # What only the labels of series decide is the same under both readings, and would take a fifth of the time.
    left_out = "labels-" if reading is left_open else "none"
    paths = sorted((ROOT / "alerts/tests").glob("*.yml"))
    tests = [reading(path.read_text()) for path in paths if not path.name.startswith(left_out)]
    assert [asserts_annotations(test) for test in tests].count(True) == 1
    files = [write_test(tmp_path / str(number), test, rules) for number, test in enumerate(tests)]
    with ThreadPoolExecutor(2) as pair:
        for result in pair.map(partial(promtool_tests, promtool), files):
            assert result.returncode == 0, result.stdout + result.stderr


def test_ranges_are_read_as_left_open():
    assert left_open("x[4m30s] offset 1m + y[1h]") == "x[269999ms] offset 1m + y[3599999ms]"
    assert left_open("(x > 0)[45s:15s]") == "(x > 0)[44999ms:15s]"


def fails(promtool, folder, text, changed=None):
    """Whether a test fails, on the rules as they are or with one changed."""
    rules = {name: (ROOT / name).read_text() for name in RULES}
    if changed:
        rules[changed.file] = changed.text
    result = promtool_tests(promtool, write_test(folder, text, rules))
    said = result.stdout + result.stderr
    assert result.returncode == 0 or "exp:" in said, said
    return result.returncode != 0


def finder(promtool, former, mutant, folder):
    """Name of a case that finds the fault, or None. The one that found it before is tried first."""
    tests = candidate_tests(mutant)
    ordered = sorted(tests, key=lambda name: name != former.get(str(mutant)))
    return next((name for name in ordered if fails(promtool, folder, tests[name], mutant)), None)


@pytest.mark.stack
@pytest.mark.slow
def test_every_fault_in_the_rules_is_found(promtool, tmp_path, request):
    every = list(mutants())
    faults = {re.sub(r" \(\d+\)", "", mutant.fault) for mutant in every}
    assert len(every) > 80
    assert {"<= becomes <", "the other threshold", "a threshold that is off counts", "blind is another number", "a dropped for", "a dropped time to last",
            "another condition", "one condition less", "a dropped NaN guard", "a dropped join on the running state"} <= faults  # fmt: skip
    folders = [tmp_path / str(number) for number in range(len(every))]
    with ThreadPoolExecutor(2) as pair:
        former = json.loads(FOUND_BY.read_text())
        found = list(pair.map(partial(finder, promtool, former), every, folders))
        assert [str(mutant) for mutant, one in zip(every, found, strict=True) if one is None] == []
        # What found them fails because of the fault: it passes on the rules as they are.
        assert not any(pair.map(partial(fails, promtool), folders, together(zip(every, found, strict=True))))
    if request.config.getoption("--golden"):
        FOUND_BY.write_text(json.dumps(dict(zip(map(str, every), found, strict=True)), indent=1) + "\n")
