"""A value that cannot be is never exported: it is dropped and counted, and every other value stands."""

from dataclasses import replace

import pytest

from rl_exporter import HeadCollector, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator

FINE = HeadMeasurement(0.9, 0.4, 0.7, 0.8, 0.5, 1.25)
EXPORTED = {
    "entropy": "rl_policy_head_entropy_nats",
    "choice_entropy": "rl_policy_head_choice_entropy_ratio",
    "choice_share": "rl_policy_head_choice_steps_ratio",
    "open_share": "rl_policy_head_open_steps_ratio",
    "gradient_norm": "rl_policy_head_gradient_norm",
    "importance_ratio_max": "rl_policy_head_importance_ratio_max",
}
BELOW = [(name, -0.5) for name in EXPORTED]
ABOVE = [("entropy", 2.0), ("choice_entropy", 1.5), ("choice_share", 1.5), ("open_share", 1.5)]


def exported(measured):
    """Samples of the head's values by name, and how many record errors there were."""
    aggregator = SanctumAggregator(Heads.of({"op": 6}), RunInfo("run"))
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": measured}))
    samples = {
        sample.name: sample.value
        for family in HeadCollector(aggregator.snapshot).collect()
        for sample in family.samples
    }
    found = {name: samples[metric] for name, metric in EXPORTED.items() if metric in samples}
    return found, aggregator.snapshot().record_errors


def test_values_within_their_bounds_are_exported():
    assert exported(FINE) == ({name: getattr(FINE, name) for name in EXPORTED}, 0)


@pytest.mark.parametrize(("name", "value"), BELOW + ABOVE)
def test_a_value_beyond_its_bounds_is_never_exported(name, value):
    expected = {other: getattr(FINE, other) for other in EXPORTED if other != name}
    assert exported(replace(FINE, **{name: value})) == (expected, 1)
