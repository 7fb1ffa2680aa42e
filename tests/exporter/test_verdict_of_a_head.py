"""What makes a head low, collapsed or settled: its thresholds, its reference, and whether it looks at the state."""

import math

import pytest

import rl_exporter
from rl_exporter import (
    Head,
    HeadMeasurement,
    Heads,
    HeadState,
    Level,
    PPOUpdatePayload,
    RunInfo,
    SanctumAggregator,
)
from rl_exporter.client.parse import parse_snapshot
from tests.support.one_head_run import OneHeadRun

BLIND, SEEING = 0.0199, 0.25


def decides(ratio, information=None, **more):
    return HeadMeasurement(1.0, ratio, 0.5, 0.5, state_information=information, **more)


def conditions(reading):
    return {condition.value for condition, _ in reading.conditions}


@pytest.mark.parametrize(
    ("ratio", "information", "expected"),
    [
        (0.25, None, {"warning", "critical", "low", "collapsed"}),
        (0.25, BLIND, {"warning", "critical", "low", "collapsed"}),
        (0.25, SEEING, {"warning", "critical", "settled"}),
        (0.251, BLIND, {"warning", "low"}),
        (0.251, SEEING, {"warning"}),
        (0.501, BLIND, set()),
    ],
)
def test_low_and_blind_is_a_collapse_low_and_seeing_is_not(ratio, information, expected):
    reading = OneHeadRun(Head("op", 6)).after(*[decides(ratio, information)] * 3)
    assert conditions(reading) == expected
    assert reading.settled == ("settled" in expected)


@pytest.mark.parametrize(
    ("nats", "ratio", "blind"),
    [
        (0.02, 0.1, False),
        (0.0199, 1.0, True),
        (0.5, 0.0999, True),
        (0.02, None, False),
        (None, 0.5, True),
        (math.nan, 0.5, True),
    ],
)
def test_a_head_is_blind_by_nats_or_by_their_share_of_the_uncertainty(nats, ratio, blind):
    reading = OneHeadRun(Head("op", 6)).after(
        *[HeadMeasurement(None, 0.1, 0.5, 0.5, state_information=nats, state_information_ratio=ratio)] * 3
    )
    assert reading.blind is blind
    assert ("collapsed" in conditions(reading)) is blind


@pytest.mark.parametrize(
    ("shares", "ratio"),
    [((None, None), 0.1 / 1.1), ((0.5, None), 0.1 / 2.1), ((0.2, 0.5), 0.1 / 2.1), ((0.0, 0.0), None)],
)
def test_a_loop_that_reports_nats_alone_gets_the_ratio_from_the_entropy_of_the_open_steps(shares, ratio):
    run = OneHeadRun(Head("op", 6))
    measured = HeadMeasurement(1.0, None, *shares, state_information=0.1)
    assert run.after(measured).state_information_ratio == (None if ratio is None else pytest.approx(ratio))
    assert ("state_information_ratio{" in run.body()) == (ratio is not None)


def test_the_ratio_of_the_loop_counts_where_it_has_one():
    measured = HeadMeasurement(1.0, 0.1, 0.5, 0.5, state_information=0.1, state_information_ratio=0.7)
    assert OneHeadRun(Head("op", 6)).after(measured).state_information_ratio == 0.7


def test_an_update_in_which_the_head_looks_at_the_state_ends_the_collapse():
    run = OneHeadRun(Head("op", 6))
    run.after(*[decides(0.1, 0.0)] * 5)
    assert "collapsed" in conditions(run.after())
    assert conditions(run.after(decides(0.1, 0.5))) == {"warning", "critical"}
    assert "collapsed" not in conditions(run.after(decides(0.1, 0.0), decides(0.1, 0.0)))
    assert "collapsed" in conditions(run.after(decides(0.1, 0.0)))


@pytest.mark.parametrize(
    ("ratio", "level"),
    [
        (0.45, Level.HEALTHY),
        (0.4, Level.WARNING),
        (0.3, Level.WARNING),
        (0.2, Level.CRITICAL),
        (math.nan, None),
    ],
)
def test_thresholds_belong_to_the_head(ratio, level):
    run = OneHeadRun(Head("op", 6, warning=0.4, critical=0.2))
    reading = run.after(*[decides(ratio)] * 3)
    assert reading.level is level
    assert ("warning" in conditions(reading)) == (level in {Level.WARNING, Level.CRITICAL})
    assert ("critical" in conditions(reading)) == (level is Level.CRITICAL)
    body = run.body()
    assert 'rl_policy_head_entropy_threshold_ratio{head="op",level="warning",run_id="run"} 0.4' in body
    assert 'rl_policy_head_entropy_threshold_ratio{head="op",level="critical",run_id="run"} 0.2' in body


def test_a_head_that_may_be_constant_does_not_die():
    constant = HeadMeasurement(0.0, 0.01, 1.0, 1.0, 0.001)
    assert OneHeadRun(Head("op", 6)).after(constant).state is HeadState.DEAD
    assert OneHeadRun(Head("op", 6, critical=0.0)).after(constant).state is HeadState.DETERMINISTIC


def test_a_threshold_of_0_is_off():
    run = OneHeadRun(Head("op", 6, warning=0.0, critical=0.0))
    reading = run.after(*[decides(0.0)] * 3)
    assert (reading.level, conditions(reading)) == (Level.HEALTHY, set())
    assert "low_entropy_streak_updates{" not in run.body()
    only_warning = OneHeadRun(Head("op", 6, critical=0.0)).after(*[decides(0.0)] * 3)
    assert conditions(only_warning) == {"warning", "low"}
    only_critical = OneHeadRun(Head("op", 6, warning=0.0)).after(*[decides(0.1)] * 3)
    assert conditions(only_critical) == {"critical", "collapsed"}


@pytest.mark.parametrize(
    "head", [Head("op", 6, warning=0.3, critical=0.3), Head("op", 6, warning=0.4, critical=0.2)]
)
def test_a_body_gives_back_thresholds_and_streaks(head):
    run = OneHeadRun(head)
    run.after(*[decides(0.1)] * 2)
    assert parse_snapshot(run.body()) == run.aggregator.snapshot()


@pytest.mark.parametrize(
    ("impossible", "reason"),
    [
        ({"warning": 1.5}, "head 'op' has warning threshold 1.5; give a number from 0"),
        ({"critical": -0.1}, "head 'op' has critical threshold -0.1; give a number from 0"),
        ({"warning": math.nan}, "warning threshold nan"),
        ({"warning": 0.2, "critical": 0.3}, "critical threshold 0.3 above its warning threshold 0.2"),
        ({"reference": 0}, "head 'op' has reference 0; give 'maximum', 'start' or a number of nats above 0"),
        ({"reference": "begin"}, "reference 'begin'"),
        ({"actions": ("a", "b")}, "6 choices but 2 different names"),
        ({"actions": ("a",) * 6}, "6 choices but 1 different names"),
    ],
)
def test_what_is_impossible_is_one_line(impossible, reason):
    with pytest.raises(ValueError, match=reason) as raised:
        Head("op", 6, **impossible)
    assert "\n" not in str(raised.value)


TOKENS = 151_936


def start(run, nats, updates=10):
    return run.after(*[HeadMeasurement(nats, None, 1.0, 1.0)] * updates)


def test_a_head_is_compared_with_its_start_once_that_is_known():
    run = OneHeadRun(Head("op", TOKENS, reference="start"))
    reading = start(run, 0.6, 9)
    assert (reading.effective, reading.level, conditions(reading)) == (None, None, {"idle"})
    assert "entropy_reference_nats{" not in run.body()
    reading = start(run, 0.6, 4)
    assert (reading.reference, reading.effective, reading.level) == (0.6, 1.0, Level.HEALTHY)
    assert reading.state is HeadState.HEALTHY
    assert conditions(reading) == set()
    reading = start(run, 0.06, 3)
    assert conditions(reading) == {"warning", "critical", "low", "collapsed"}
    reading = start(run, 1.5, 1)
    assert reading.effective == pytest.approx(2.5)
    assert reading.level is Level.HEALTHY


def test_the_start_is_the_median_so_one_odd_update_does_not_make_it():
    run = OneHeadRun(Head("op", TOKENS, reference="start"))
    assert start(run, 9.0, 1).reference is None
    assert start(run, 0.6, 9).reference == 0.6


def test_a_known_start_survives_the_way_over_metrics_and_a_resume():
    run = OneHeadRun(Head("op", TOKENS, reference="start"))
    start(run, 0.6)
    seen = parse_snapshot(run.body())
    assert seen.tamiyo.readings["op"].reference == 0.6
    assert seen.tamiyo.readings["op"].effective == 1.0
    resumed = OneHeadRun(Head("op", TOKENS, reference="start"), resumed=seen)
    assert start(resumed, 0.3, 1).effective == 0.5


def test_a_number_of_nats_is_a_reference_from_the_first_update_on():
    reading = start(OneHeadRun(Head("op", TOKENS, reference=2.0)), 0.5, 1)
    assert reading.effective == 0.25
    assert reading.level is Level.CRITICAL


SHARES = (0.97, 0.01, 0.01, 0.01, 0.0, 0.0)


def test_actions_have_names_and_one_leads():
    run = OneHeadRun(Head("op", 6, actions=tuple("ABCDEF")))
    reading = run.after(decides(0.1, 0.0, action_shares=SHARES))
    assert reading.leading_action == 0
    body = run.body()
    assert 'rl_policy_head_action_ratio{action="A",head="op",run_id="run"} 0.97' in body
    assert parse_snapshot(body) == run.aggregator.snapshot()
    assert run.after(decides(0.1, 0.0)).leading_action is None


@pytest.mark.parametrize("shares", [(1.0,), (0.5,) * 6, (1.5, -0.5, 0, 0, 0, 0), (math.nan,) * 6])
def test_impossible_shares_are_errors_and_dropped(shares):
    run = OneHeadRun(Head("op", 6))
    reading = run.after(decides(0.1, 0.0, action_shares=shares))
    assert reading.action_shares == ()
    assert reading.choice_entropy == 0.1
    assert run.aggregator.snapshot().record_errors == 1


def test_a_resume_goes_on_under_other_thresholds_and_multipliers():
    former = OneHeadRun(Head("op", 6))
    former.after(*[decides(0.3)] * 3)
    resumed = OneHeadRun(Head("op", 6, 2.0, warning=0.2, critical=0.1), resumed=former.aggregator.snapshot())
    assert resumed.after(decides(0.3)).level is Level.HEALTHY
    with pytest.raises(ValueError, match="cannot resume run 'run'"):
        OneHeadRun(Head("op", 5), resumed=former.aggregator.snapshot())


def test_serve_takes_thresholds_reference_and_actions_by_head():
    with rl_exporter.serve(
        {"op": 2, "tokens": TOKENS}, listen="127.0.0.1:0", linger=0, thresholds={"op": (0.4, 0.2)},
        reference={"tokens": "start"}, actions={"op": ["LEFT", "RIGHT"]},
    ) as recorder:  # fmt: skip
        recorder.record(
            {"op": 0.1, "tokens": 0.6}, state_information={"op": 0.01}, action_shares={"op": [0.9, 0.1]}
        )
        op, tokens = recorder.snapshot().tamiyo.heads
        assert (op.thresholds, op.actions, tokens.thresholds) == ((0.4, 0.2), ("LEFT", "RIGHT"), (0.25, 0.1))
        assert recorder.snapshot().tamiyo.readings["op"].action_shares == (0.9, 0.1)
    for wrong in (
        {"thresholds": {"leg": (0.5, 0.2)}},
        {"reference": {"leg": "start"}},
        {"actions": {"leg": ["A"]}},
    ):
        with pytest.raises(ValueError, match="unknown head 'leg'"):
            rl_exporter.serve({"op": 2}, listen="127.0.0.1:0", **wrong)


def test_the_best_return_so_far_is_kept():
    aggregator = SanctumAggregator(Heads.of({"op": 2}), RunInfo("run"))
    for value in (None, 1.0, 3.0, 2.0, None):
        aggregator.handle_ppo_update(PPOUpdatePayload(episode_return=value))
    snapshot = aggregator.snapshot()
    assert (snapshot.episode_return, snapshot.episode_return_max) == (2.0, 3.0)


def test_one_odd_decision_in_ten_updates_does_not_end_a_collapse():
    """At one update a second, a minute without any would be rare."""
    run = OneHeadRun(Head("op", 6))
    still = decides(0.01, 0.001, state_information_ratio=0.05)
    odd = decides(0.01, 0.05, state_information_ratio=0.7)
    begun = dict(run.after(*[still] * 9).conditions)["collapsed"]
    reading = run.after(odd)
    assert reading.state_information == 0.05, "what was measured is shown"
    assert reading.blind
    assert dict(reading.conditions)["collapsed"] == begun
    assert dict(run.after(still).conditions)["collapsed"] == begun
    assert "collapsed" not in conditions(run.after(*[odd] * 5)), "six of ten are no exception"


def test_an_exception_does_not_lengthen_a_condition():
    run = OneHeadRun(Head("op", 6))
    run.after(*[decides(0.8, 0.001)] * 8, *[decides(0.1, 0.001)] * 2)
    assert "collapsed" not in conditions(run.after(decides(0.1, 0.05, state_information_ratio=0.7)))
    assert "collapsed" in conditions(run.after(decides(0.1, 0.001)))
