"""The body of /metrics, letter by letter. After a wanted change: python -m pytest tests/exporter/test_golden.py --golden."""

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer
from rl_exporter.metrics import LIVE_METRICS, UPDATE_METRICS

SHARES = (0.5, 0.25, 0.125, 0.0625, 0.0625, 0.0)
CONTROL = {
    "entropy_target": 0.5,
    "entropy_coefficient_applied": 0.25,
    "entropy_coefficient_proposed": 0.375,
    "interventions_raised": 3.0,
    "interventions_released": 1.0,
    "controller_saturated": 2.0,
}
GOLDEN = Path(__file__).parent / "golden"
FORMATS = {"metrics.txt": "", "openmetrics.txt": "application/openmetrics-text; version=1.0.0"}
VARIABLE = re.compile(
    r"^(?:process_|rl_exporter_(?:build_info|render)).*$|^# .* (?:process_|rl_exporter_(?:build_info|render)).*$"
)


def body(accept):
    """Three updates of three heads, among them a dilution, a collapse and a head that was not measured."""
    heads = Heads([Head("op", 6), Head("blueprint", 13, 1.3), Head('od"d\\', 1)])
    run = RunInfo("golden", "experiment", "ppo", "heads", "0", "cpu")
    aggregator = SanctumAggregator(heads, run, entropy_coefficient=0.01, clock=lambda: 1.75e9)
    for ratio in (0.9, 0.5, 0.25):
        aggregator.handle_ppo_update(
            PPOUpdatePayload(
                heads={
                    "op": HeadMeasurement(
                        1.5, 0.8, 0.75, 0.75, 0.5, 1.125, 0.375, -0.5, 9.0, 0.25, action_shares=SHARES
                    ),
                    "blueprint": HeadMeasurement(
                        2.0 * ratio, ratio, 0.125, 0.25, 0.001, 2.0, nan_steps=1, **CONTROL
                    ),
                },
                environment_steps=512,
                episodes=2,
                episode_return=-0.5,
                learning_rate=0.0009765625,
                episode_length=256.0,
                kl_divergence=0.015625,
                clipped_share=0.25,
                gradient_norm=0.75,
                policy_loss=-0.125,
                value_loss=0.5,
                explained_variance=0.875,
                rollout_duration=0.5,
                update_duration=2.0,
                environment_metrics={
                    "accuracy_ratio": 0.75,
                    'modules_ratio{slot="b",blueprint="conv"}': 0.5,
                    'modules_ratio{slot="a",blueprint="norm"}': 1.0,
                },
            )
        )
    return Renderer(aggregator.snapshot).render(accept)[0].decode()


def stable(text):
    return "\n".join(line for line in text.splitlines() if not VARIABLE.match(line)) + "\n"


@pytest.mark.parametrize("name", FORMATS)
def test_the_body_is_the_golden_one(name, request):
    text = stable(body(FORMATS[name]))
    if request.config.getoption("--golden"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_every_metric_of_the_table_is_in_it():
    samples = {re.split(r"[{ ]", line)[0] for line in body("").splitlines() if not line.startswith("#")}
    for metric in (*UPDATE_METRICS, *LIVE_METRICS):
        suffix = "_count" if metric.kind == "histogram" else ""
        assert metric.name + suffix in samples | {"rl_policy_entropy_nats"}, metric.name


def test_it_parses_as_openmetrics():
    families = {family.name: family for family in parse_openmetrics(body(FORMATS["openmetrics.txt"]))}
    assert families["rl_policy_head_effective_entropy_ratio"].type == "histogram"
    assert families["rl_policy_head_nonfinite_values"].type == "counter"
    assert {f.unit for f in families.values()} >= {"nats", "ratio", "seconds", "updates"}
    with pytest.raises(ValueError, match="EOF"):
        list(parse_openmetrics(body(FORMATS["openmetrics.txt"]).replace("# EOF\n", "")))


@pytest.mark.stack
def test_promtool_has_nothing_to_say_about_it(promtool):
    def lint(text):
        return subprocess.run(
            [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
        )

    checked = lint(body(""))
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    broken = lint(body("").replace("rl_training_updates_total", "rl_training_updates"))
    assert broken.returncode != 0
