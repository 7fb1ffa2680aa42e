"""The runs that the rules are tested on show what the exporter shows."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rl_exporter import Head, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.collector import Renderer
from tests.alerts.rule_cases.exposition import exposed
from tests.alerts.rule_cases.simulation import (
    CLOSED,
    STARVED,
    UNMEASURED,
    Declared,
    Measured,
    Run,
    decides,
    normalized_only,
)
from tests.alerts.rule_cases.states import DEAD, EXPLODING
from tests.support.judged_runs import measurement

SEQUENCE = (decides(0.8), decides(0.5), decides(0.25), decides(0.1), decides(0.1), STARVED, STARVED, CLOSED, UNMEASURED,
            decides(0.2), decides(0.95), DEAD, DEAD, EXPLODING, decides(0.3)._replace(nans=2), UNMEASURED, DEAD,
            *(decides(0.9 - 0.05 * i) for i in range(12)))  # fmt: skip
PLAIN = (
    normalized_only(0.8),
    normalized_only(0.5),
    UNMEASURED,
    normalized_only(0.25),
    normalized_only(0.05),
    normalized_only(0.95),
    normalized_only(0.05)._replace(g=0.0),
    *(normalized_only(0.05)._replace(saturated=n) for n in range(3)),
)
SHARES = tuple((name, share) for name, share in zip("abcdef", (0.5, 0.1, 0.1, 0.1, 0.1, 0.1), strict=True))
SIGHTED, BLIND = decides(0.1, 0.6)._replace(shares=SHARES, margin_t=2.5), decides(0.1, 0.01)
VERDICTS = (
    *[decides(0.8, 0.3)] * 2,
    *[BLIND, BLIND, SIGHTED] * 2,
    *[BLIND] * 4,
    *[SIGHTED] * 4,
    decides(0.4, 0.02),
    decides(0.4, 0.25),
    *[decides(0.4, 0.019)] * 3,
    *[decides(0.1, 0.15)._replace(explained=0.09)] * 3,
    *[decides(0.1, 0.015)._replace(explained=0.9)] * 3,
    decides(0.1, 0.03)._replace(explained=0.1),
    normalized_only(0.2)._replace(information=0.03),
    normalized_only(0.2)._replace(information=0.05),
    *[decides(0.1)] * 4,
    *[DEAD._replace(information=0.6)] * 3,
    *[DEAD._replace(information=0.01)] * 3,
    STARVED,
    UNMEASURED,
    *[decides(0.1, 0.0)] * 12,
    decides(0.1, 0.05),
    decides(0.4, 0.05),
    *[decides(0.1, 0.0)] * 2,
    *[decides(0.1, 0.5)] * 4,
    *[decides(0.1)] * 3,
    decides(0.1, 0.5),
    *[decides(0.1)] * 13,
)
FALLS = tuple(normalized_only(max(0.01, 1 - 0.03 * n))._replace(information=0.1) for n in range(36))
DECLARED = {
    "maximum": Declared(),
    "own thresholds": Declared(0.4, 0.1),
    "off": Declared(0.0, 0.0),
    "no warning": Declared(0.0, 0.25),
    "nats": Declared(0.5, 0.25, 1.0),
    "start": Declared(0.25, 0.1, "start"),
}
OF_THE_PROCESS = {"rl_exporter_record_errors_total"}


def shown(aggregator):
    text = Renderer(aggregator.snapshot).render("")[0].decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "run_id"}
            yield (sample.name, frozenset(labels.items())), sample.value


@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize(
    "sequence", [SEQUENCE, PLAIN, VERDICTS, FALLS], ids=["choices", "normalized only", "verdicts", "falls"]
)
@pytest.mark.parametrize("durations", [True, False])
def test_a_simulated_run_shows_what_the_exporter_shows(sequence, durations, declared):
    clock = [0.0]
    run = Run(
        policy=lambda n: {"op": sequence[n - 1]},
        period=30,
        start=0,
        durations=durations,
        declared={"op": declared},
        returns=lambda n: float(n * 7 % 5),
    )
    head = Head(
        "op",
        6,
        warning=declared.warning,
        critical=declared.critical,
        reference=declared.reference or "maximum",
        actions=tuple("abcdef"),
    )
    aggregator = SanctumAggregator(Heads([head]), RunInfo("a"), clock=lambda: clock[0])
    for number in range(len(sequence) + 1):
        if number:
            clock[0] = run.update_time(number)
            spent = {"rollout_duration": 22.5, "update_duration": 7.5} if durations else {}
            heads = {"op": measurement(sequence[number - 1], 6)}
            payload = PPOUpdatePayload(heads=heads, episode_return=run.returns(number), **spent)
            aggregator.handle_ppo_update(payload)
        real = dict(shown(aggregator))
        simulated = {(name, frozenset(labels)): value for (name, labels), value in exposed(run, number).items()}
        assert simulated.keys() <= real.keys(), number
        ours = {key: real[key] for key in simulated}
        different = {
            key: (value, ours[key])
            for key, value in simulated.items()
            if value != pytest.approx(ours[key], abs=2e-6)
        }
        assert different == {}, number
        shared = {key for key in real if key[0] in {name for name, _ in simulated}}
        assert {key for key in shared - simulated.keys() if ("kind", "inf") not in key[1]} == set(), number
        # Nothing that the rules read is missing from the simulation.
        names = {name for name, _ in simulated} | ALWAYS_THERE
        left_out = {name for name, _ in real if name.startswith(("rl_policy_head", "rl_training"))} - names
        assert left_out == set(), number


ALWAYS_THERE = {
    "rl_policy_head_effective_entropy_ratio_bucket",
    "rl_policy_head_effective_entropy_ratio_sum",
    "rl_policy_head_entropy_coefficient",
    "rl_policy_head_gradient_norm",
    "rl_policy_head_position",
    "rl_training_environment_steps_total",
    "rl_training_episodes_total",
    "rl_training_run_info",
    "rl_training_rollout_duration_seconds_bucket",
    "rl_training_update_duration_seconds_bucket",
}
"""What no rule reads."""


def test_the_comparison_sees_a_difference():
    run = Run(policy=lambda n: {"op": decides(0.8)}, period=30)
    other = Run(
        policy=lambda n: {"op": Measured(normalized=0.72, choice=0.8, share=0.5, open=0.8, g=9.0)}, period=30
    )
    assert exposed(run, 3) != exposed(other, 3)
