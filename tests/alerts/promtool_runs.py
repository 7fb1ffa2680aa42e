"""promtool on rule tests that are written by tests."""

import os
import subprocess
from functools import cache

import yaml


def promtool_tests(promtool, file):
    # promtool spends a quarter of its time on collecting garbage of small heaps.
    environment = {**os.environ, "GOGC": "400"}
    command = [promtool, "test", "rules", file]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def asserts_annotations(test):
    return "alert_rule_test:" in test


@cache
def without_annotations(rules):
    """Rules without the texts of their alerts, whose queries cost promtool a fifth of its time."""
    document = yaml.load(rules, yaml.CSafeLoader)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


def write_test(folder, test, rules):
    """Write a rule test and the rules by their names in the project; with annotations only if the test asserts some."""
    for name, text in rules.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text if asserts_annotations(test) else without_annotations(text))
    file = folder / "alerts/tests/test.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(test)
    return file
