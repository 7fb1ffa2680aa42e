"""What the judge remembers between looks, beyond what the rule tests look at."""

import pytest

from tests.alerts.rule_cases.case import Case
from tests.alerts.rule_cases.simulation import STARVED, Run, decides
from tests.support.judged_runs import judged

COLLAPSED, HEALTHY = decides(0.1), decides(0.8)


def firing(policy, seconds, name):
    """Times at which an alert of this name fires, of a run with an update in 30 s."""
    looks = judged(Case("", (Run(policy=lambda n: {"op": policy(n)}, period=30),), seconds, ()))
    return [look.at for look in looks if name in {alert for alert, *_ in look.firing}]


def fired_of(*runs, seconds=1500):
    """Times at which anything fires about each run, by alert and run."""
    found = {}
    for look in judged(Case("", runs, seconds, ())):
        for name, run_id, _ in look.firing:
            found.setdefault((name, run_id), []).append(look.at)
    return found


def test_another_run_at_the_address_starts_anew():
    first = Run(policy=lambda _: {"op": COLLAPSED}, period=30, gone=600)
    second = Run(policy=lambda _: {"op": HEALTHY}, period=30, run_id="b", start=615)
    found = fired_of(first, second)
    assert found.keys() == {("RLPolicyHeadCollapsed", "a"), ("RLPolicyHeadEntropyLow", "a")}
    assert found["RLPolicyHeadCollapsed", "a"][-1] < 615


def test_a_run_that_was_started_elsewhere_before_it_was_lost_goes_on():
    first = Run(policy=lambda _: {"op": HEALTHY}, period=30, gone=600)
    second = Run(policy=lambda _: {"op": HEALTHY}, period=30, start=500, instance="other:28008")
    assert fired_of(first, second) == {}


def test_a_head_that_decides_again_is_not_judged_by_what_stood_still():
    """Collapsed to update 10, without decisions to update 40, then healthy."""

    def policy(number):
        return COLLAPSED if number <= 10 else STARVED if number <= 40 else HEALTHY

    fired = firing(policy, 2400, "RLPolicyHeadCollapsed")
    assert fired[0] < 180
    assert 11 * 30 + 600 <= fired[-1] <= 11 * 30 + 650


@pytest.mark.parametrize(("good", "over"), [(40, 180), (60, 180)])
def test_a_starved_head_that_decides_again_clears_within_minutes(good, over):
    fired = firing(lambda number: STARVED if number < good else HEALTHY, 3000, "RLPolicyHeadStarved")
    assert fired[0] < 700
    assert good * 30 <= fired[-1] <= good * 30 + over + 15


@pytest.mark.parametrize("name", ["cluster", "namespace"])
def test_a_run_of_the_same_name_in_another_scope_does_not_hide_a_loss(name):
    lost = Run(policy=lambda _: {"op": HEALTHY}, period=30, gone=600, labels={name: "east"})
    other = Run(
        policy=lambda _: {"op": HEALTHY}, period=30, start=500, instance="other:28008", labels={name: "west"}
    )
    assert fired_of(lost, other).keys() == {("RLTrainingTargetDown", "a")}
