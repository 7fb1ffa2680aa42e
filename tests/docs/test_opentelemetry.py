"""The page on OpenTelemetry: the Collector's configuration, its table, and the metrics of the exporter agree."""

import re

import yaml

from rl_exporter.cli.main import metrics_table
from tests.support import ROOT

PAGE = (ROOT / "docs/opentelemetry.md").read_text()
CONFIGURATION = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
LABELS = {
    name: set(labels.split(", "))
    for name, labels in re.findall(r"^\| `(rl_\w+)` \| \w+ \| ([^|]*) \|", metrics_table(), re.MULTILINE)
}
STATEMENTS = [
    (stage["context"], statement)
    for stage in CONFIGURATION["processors"]["transform/rl"]["metric_statements"]
    for statement in stage["statements"]
]
RENAMED = {
    found[2]: found[1]
    for _, statement in STATEMENTS
    if (found := re.fullmatch(r'set\(name, "([\w.]+)"\) where name == "(\w+)"', statement))
}


def test_the_statements_rename_metrics_that_exist():
    assert len(RENAMED) == 10
    assert LABELS.keys() >= RENAMED.keys()


def test_the_table_says_what_the_statements_do():
    rows = re.findall(r"^\| `(rl\.[\w.]+)`[^|]*\| \[`(rl_\w+)`\]", PAGE, re.MULTILINE)
    assert {ours: theirs for theirs, ours in rows} == RENAMED
    # A name that several metrics get is told apart by an attribute, in both.
    losses = {ours for ours, theirs in RENAMED.items() if theirs == "rl.train.loss"}
    kinds = dict(re.findall(r"`rl\.train\.loss`, `rl\.loss\.type` `(\w+)` \| \[`(rl_\w+)`\]", PAGE))
    said = [re.fullmatch(r'set\(attributes\["rl.loss.type"\], "(\w+)"\) where metric.name == "(\w+)"', s) for _, s in STATEMENTS]  # fmt: skip
    assert {found[1]: found[2] for found in said if found} == kinds
    assert set(kinds.values()) == losses


def test_attributes_come_from_labels_that_exist():
    read = [
        (re.search(r'where metric.name == "(\w+)"', statement), label)
        for context, statement in STATEMENTS
        if context == "datapoint"
        for label in re.findall(r', attributes\["(\w+)"\]\)', statement)
    ]
    assert {label for _, label in read} == {"run_id", "algorithm", "environment"}
    assert all(metric is None or label in LABELS[metric[1]] for metric, label in read)


def test_the_pipeline_of_the_rules_changes_no_name():
    pipelines = CONFIGURATION["service"]["pipelines"]
    assert "processors" not in pipelines["metrics/rules"]
    assert CONFIGURATION["exporters"]["prometheusremotewrite"]["add_metric_suffixes"] is False
    assert {part for pipeline in pipelines.values() for part in pipeline["receivers"]} == {"prometheus"}
