import math

import pytest

from rl_exporter import HeadMeasurement, Heads, RunInfo, SanctumAggregator
from rl_exporter.view.verdict import Status, findings, run_status, weakest, worst
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
    ) == [("critical", "gone"), ("warning", "low"), ("starved", "starved"), ("diluted", "diluted")]


def test_dilution_is_not_called_a_collapse():
    assert words({"op": HeadMeasurement(0.1, 0.9, 0.1, 0.1)}) == [("diluted", "op")]
    assert words({"op": HeadMeasurement(0.1, 0.2, 0.1, 0.1)}) == [("critical", "op")]


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
    assert finding.text == f"choice entropy 0.008 for {streak} updates"
    assert findings(ratio_run(0.2).snapshot())[0].text == "choice entropy 0.200 for 1 update"


def test_lost_telemetry_is_named():
    aggregator = ratio_run(0.9)
    aggregator.count_record_error()
    assert findings(aggregator.snapshot())[0].text.startswith("telemetry failed once")
