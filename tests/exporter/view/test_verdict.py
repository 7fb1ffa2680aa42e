import math

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.health import Level
from rl_exporter.view.cells import Tone
from rl_exporter.view.findings import findings
from rl_exporter.view.verdict import Status, run_status, severity, verdict_level, weakest, worst
from tests.support.panel_runs import drill, ratio_run, run_of

UP = math.nextafter


@pytest.mark.parametrize(
    ("ratio", "status"),
    [
        (0.25, Status.CRITICAL),
        (UP(0.25, 1), Status.WARNING),
        (0.5, Status.WARNING),
        (UP(0.5, 1), Status.HEALTHY),
    ],
)
def test_the_worst_head_decides(ratio, status):
    measured = {"op": HeadMeasurement(1.0, 0.9, 1.0, 1.0), "slot": HeadMeasurement(1.0, ratio, 1.0, 1.0)}
    assert run_status(run_of(measured).snapshot()) is status


def test_exploding_gradients_are_critical_as_for_the_alerts():
    assert run_status(run_of({"op": HeadMeasurement(1.0, 0.9, 1.0, 1.0, 6.0)}).snapshot()) is Status.CRITICAL


def test_a_head_without_choice_is_no_verdict():
    measured = {"op": HeadMeasurement(1.0, 0.9, 1.0, 1.0), "slot": HeadMeasurement(0.1, None, 0.0, 0.0)}
    assert run_status(run_of(measured).snapshot()) is Status.HEALTHY


def test_no_data():
    assert run_status(None) is Status.NO_DATA
    assert run_status(SanctumAggregator(Heads.of({"op": 3}), RunInfo("r")).snapshot()) is Status.NO_DATA
    assert run_status(run_of({"op": HeadMeasurement(0.1, None, 0.0)}).snapshot()) is Status.NO_DATA


def test_critical_outranks_no_data_outranks_warning():
    assert worst([Status.NO_DATA, Status.CRITICAL, Status.WARNING]) is Status.CRITICAL
    assert worst([Status.WARNING, Status.NO_DATA, Status.HEALTHY]) is Status.NO_DATA
    assert worst([Status.WARNING, Status.HEALTHY]) is Status.WARNING
    assert worst([]) is Status.NO_DATA
    assert list(map(int, Status)) == [0, 1, 2, 3]


def words(measured):
    return [(f.word, f.head) for f in findings(run_of(measured).snapshot())]


def test_findings_name_the_head_worst_first():
    assert words(
        {
            "diluted": HeadMeasurement(0.1, 0.9, 0.1, 0.1),
            "starved": HeadMeasurement(1.0, None, 0.0, 0.5),
            "low": HeadMeasurement(1.0, 0.4, 1.0, 1.0),
            "gone": HeadMeasurement(1.0, 0.2, 1.0, 1.0),
        }
    ) == [("collapsed", "gone"), ("low", "low"), ("starved", "starved"), ("diluted", "diluted")]


def test_dilution_is_not_called_a_collapse():
    assert words({"op": HeadMeasurement(0.1, 0.9, 0.1, 0.1)}) == [("diluted", "op")]
    assert words({"op": HeadMeasurement(0.1, 0.2, 0.1, 0.1)}) == [("collapsed", "op")]


def test_a_healthy_run_says_so_and_names_its_weakest_head():
    snapshot = run_of({"op": HeadMeasurement(1.0, 0.9), "slot": HeadMeasurement(1.0, 0.6)}).snapshot()
    (finding,) = findings(snapshot)
    assert (finding.word, finding.text) == ("healthy", "every head; the weakest is slot, 0.600")
    assert weakest(snapshot) == ("slot", 0.6)


def test_a_streak_says_since_when():
    *_, snapshot = drill()
    (finding,) = findings(snapshot)
    streak = snapshot.tamiyo.readings["blueprint"].critical_streak
    assert streak > 20
    unknown = "not known whether its choices depend on the state"
    assert finding.text == f"choice entropy 0.008 for {streak} updates: {unknown}"
    assert findings(ratio_run(0.2).snapshot())[0].text == f"choice entropy 0.200 for 1 update: {unknown}"


BLIND, SEES = 0.003, 0.8
HOW_LOW = {"critical": 0.05, "warning": 0.4, "healthy": 0.8}


@pytest.mark.parametrize(
    ("low", "information", "status", "word", "color"),
    [
        ("critical", BLIND, Status.CRITICAL, "collapsed", Level.CRITICAL),
        ("critical", None, Status.CRITICAL, "collapsed", Level.CRITICAL),
        ("critical", SEES, Status.HEALTHY, "settled", None),
        ("warning", BLIND, Status.WARNING, "low", Level.WARNING),
        ("warning", None, Status.WARNING, "low", Level.WARNING),
        ("warning", SEES, Status.HEALTHY, "healthy", None),
        ("healthy", BLIND, Status.HEALTHY, "healthy", Level.HEALTHY),
        ("healthy", SEES, Status.HEALTHY, "healthy", Level.HEALTHY),
    ],
)
def test_low_entropy_is_a_failure_only_of_a_head_that_is_blind_to_the_state(
    low, information, status, word, color
):
    measured = HeadMeasurement(1.0, HOW_LOW[low], 1.0, 1.0, 0.1, state_information=information)
    snapshot = run_of({"op": measured}).snapshot()
    (finding,) = findings(snapshot)
    assert run_status(snapshot) is status
    assert finding.word == word
    assert (finding.tone is Tone.PLAIN) == (word == "settled")
    assert snapshot.tamiyo.readings["op"].level.value == low, "the colour of the ratio stays that of its level"
    assert verdict_level(snapshot.tamiyo.readings["op"]) is color


def evidence(**measured):
    head = Head("blueprint", 3, actions=("NOOP", "DEPTHWISE", "NORM"))
    aggregator = SanctumAggregator(Heads([head]), RunInfo("r"))
    measurement = HeadMeasurement(0.1, 0.05, 1.0, 1.0, 0.1, **measured)
    aggregator.handle_ppo_update(PPOUpdatePayload(heads={"blueprint": measurement}))
    return findings(aggregator.snapshot())[0].text.partition(": ")[2]


def test_a_finding_says_what_the_head_does_whether_it_looks_and_what_it_is_paid_for():
    shares = (0.01, 0.97, 0.02)
    assert evidence(action_shares=shares, state_information=0.003, advantage_margin_t=9.1) == (
        "DEPTHWISE at 97% of its decisions; nearly the same whatever it sees "
        "(0.003 nats, 3% of what is uncertain); "
        "paid for it: its alternatives did worse, t = 9"
    )
    assert evidence(state_information=0.003, advantage_margin_t=-4.2) == (
        "nearly the same whatever it sees (0.003 nats, 3% of what is uncertain); not paid for it: its alternatives did better, t = -4"
    )
    assert evidence(advantage_margin_t=0.3).endswith("; its alternatives did as well, t = 0.3")
    assert evidence() == "not known whether its choices depend on the state"
    assert evidence(action_shares=shares, state_information=0.8, advantage_margin_t=9.1) == (
        "DEPTHWISE at 97% of its decisions; decides by what it sees (0.800 nats, 89% of what is uncertain)"
    )


def test_a_dead_head_is_critical_and_told_once():
    snapshot = run_of({"op": HeadMeasurement(0.01, 0.05, 1.0, 1.0, 0.001)}).snapshot()
    (finding,) = findings(snapshot)
    assert run_status(snapshot) is Status.CRITICAL
    assert finding.word == "dead"
    assert finding.text.endswith("gradient norm 0.001: nothing pulls it back")


def test_thresholds_of_the_head_decide_and_0_switches_one_off():
    def run(ratio, **own):
        aggregator = SanctumAggregator(Heads([Head("op", 4, **own)]), RunInfo("r"))
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": HeadMeasurement(1.0, ratio, 1.0, 1.0, 0.1)}))
        return run_status(aggregator.snapshot())

    own = {"warning": 0.4, "critical": 0.2}
    assert [run(ratio, **own) for ratio in (0.45, 0.4, 0.25, 0.2)] == [
        Status.HEALTHY, Status.WARNING, Status.WARNING, Status.CRITICAL]  # fmt: skip
    assert run(0.01, warning=0.0, critical=0.0) is Status.HEALTHY


def test_a_settled_head_is_the_weakest_only_where_every_head_is():
    settled = HeadMeasurement(0.1, 0.05, 1.0, 1.0, 0.1, state_information=SEES)
    mixed = run_of({"op": settled, "slot": HeadMeasurement(1.0, 0.8, 1.0, 1.0)}).snapshot()
    solved = run_of({"op": settled}).snapshot()
    assert weakest(mixed) == ("slot", 0.8)
    assert weakest(solved) == ("op", 0.05)
    collapsed, low = ratio_run(0.2).snapshot(), ratio_run(0.4).snapshot()
    in_order = [collapsed, None, low, ratio_run(0.7).snapshot(), mixed, solved]
    assert sorted([solved, *in_order[:-1]], key=severity) == in_order


def test_lost_telemetry_is_named():
    aggregator = ratio_run(0.9)
    aggregator.count_record_error()
    assert findings(aggregator.snapshot())[0].text.startswith("telemetry failed once")
