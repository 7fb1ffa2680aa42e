"""The judge in the process says of every simulated run what the alert rules say of it."""

from itertools import pairwise

import pytest

from rl_exporter.notify import alerts
from rl_exporter.notify.alerts import Firing, Severity, inhibits
from tests.alerts.rule_cases import (
    collapse,
    controller,
    ends,
    intervals,
    labels,
    pods,
    states,
    training,
    verdict,
)
from tests.alerts.rule_cases.simulation import SCRAPE_SECONDS
from tests.support.judged_runs import judged
from tests.support.shipped_alerts import alert_rules, inhibited, inhibitions

ALERTS = (*alerts.HEAD_ALERTS, alerts.NONFINITE, alerts.STALLED, alerts.ERRORS, alerts.FAILED, alerts.DOWN, alerts.VANISHED)  # fmt: skip
JUDGED = {alert.name for alert in ALERTS}
SUBJECTS = {
    "collapse": collapse.cases,
    "controller": controller.cases,
    "states": states.cases,
    "verdict": verdict.cases,
    "training": training.cases,
    "ends": ends.cases,
    "pods": pods.cases,
    "intervals": intervals.cases,
    "labels": labels.plain,
}
_NO_NAN = "the exporter counts a NaN and exports none"
ONLY_PROMETHEUS = {
    "choice entropy NaN has no level": _NO_NAN,
    "normalized-only entropy NaN has no level": _NO_NAN,
    "NaN has no level, with a reference": _NO_NAN,
    "two runs of one process are killed, removed": "a page of metrics that is parsed shows one run",
    "two runs of one process are killed, left": "the same",
    "a target never answers": "no run is known of it",
    "a target never answers for an hour and more, and then does": "the same",
    "a target never answers, whatever its labels": "the same",
}
"""Cases that the judge in the process cannot tell apart, and why."""


def cases(subject):
    """The cases of simulated runs, without those that are given as series."""
    return [
        case
        for case in SUBJECTS[subject]()
        if case.runs and case.name not in ONLY_PROMETHEUS and any(map(speaks, case.checks))
    ]


def speaks(check):
    claim = check.claim
    return claim is not None and (not claim.name or claim.name in JUDGED)


def disagreement(check, looks):
    """What the judge said, where a check says otherwise; None where they agree."""
    kind, expected, name, since = check.claim
    wanted = {(labels["alertname"], labels.get("run_id", ""), labels.get("head", "")) for labels in expected}
    until = [look for look in looks if look.at <= check.at]
    named = [any(one[0] == name for one in look.firing) for look in until]
    if kind == "exactly":
        found = set(until[-1].firing)
    elif kind == "ever":
        found = set().union(*(look.firing for look in until if look.at > check.at - int(check.at - since)))
    elif kind in {"fires", "silent"}:
        found, wanted = named[-1], kind == "fires"
    elif kind == "throughout":
        found, wanted = all(on for look, on in zip(until, named, strict=True) if look.at >= since), True
    else:
        assert kind == "once"
        opened = [at for at in range(1, len(named)) if named[at] and not named[at - 1]]
        gaps = [(b - a) * SCRAPE_SECONDS for a, b in pairwise(opened)]
        found, wanted = min(gaps, default=600) >= 600, True
    return None if found == wanted else found


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_judge_agrees_with_the_rules(subject):
    for case in cases(subject):
        looks = list(judged(case))
        for check in filter(speaks, case.checks):
            said = disagreement(check, looks)
            assert said is None, f"{case.name}, at {check.at:g} s, {check.claim}: the judge says {said}"


OF_THE_STACK = {
    "RLMonitoringRuleFailures": "there is no stack to fail",
    "RLTrainingTargetNeverUp": "a judge without a run has nothing to judge",
}


def test_every_alert_that_pages_is_judged_with_its_severity():
    pages = {
        rule["alert"]: rule["labels"]["severity"]
        for rule in alert_rules()
        if rule["labels"]["severity"] in set(Severity) and rule["alert"] not in OF_THE_STACK
    }
    assert {alert.name: alert.severity for alert in ALERTS} == pages


def test_left_out_cases_exist():
    assert ONLY_PROMETHEUS.keys() <= {case.name for subject in SUBJECTS for case in SUBJECTS[subject]()}


HEADS = ("", "op", "slot")


def every_alert():
    """Each alert that is judged, of each head that it can be about, in two runs."""
    of_heads = {alert.name for alert in (*alerts.HEAD_ALERTS, alerts.NONFINITE)}
    for alert in ALERTS:
        for head in HEADS[1:] if alert.name in of_heads else HEADS[:1]:
            for run_id in ("a", "b"):
                yield Firing(alert.name, alert.severity, run_id, head, 0.0, "")


def test_the_judge_inhibits_what_alertmanager_inhibits():
    rules_of_alertmanager = inhibitions()

    def labels(one):
        return {"alertname": one.name, "severity": one.severity, "run_id": one.run_id, "head": one.head}

    found = 0
    for source in every_alert():
        for target in every_alert():
            expected = inhibited(rules_of_alertmanager, labels(source), labels(target))
            assert inhibits(source, target) == expected, (source, target)
            found += expected
    assert found > 20
