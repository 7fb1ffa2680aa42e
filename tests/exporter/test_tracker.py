"""What has held for three updates or more, and since when."""

import pytest

from rl_exporter import HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.client.parse import parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.health import Condition

BAD = HeadMeasurement(0.1, 0.2, 0.5, 0.5)
LOW = HeadMeasurement(0.1, 0.4, 0.5, 0.5)
GOOD = HeadMeasurement(1.0, 0.8, 0.5, 0.5)
DEAD = HeadMeasurement(0.01, 0.01, 0.5, 0.5, 0.001)
EXPLODING = HeadMeasurement(1.0, 0.8, 0.5, 0.5, 9.0)
STARVED = HeadMeasurement(1.0, None, 0.0, 0.5)
CLOSED = HeadMeasurement(0.0, None, 0.0, 0.0)
NOTHING = HeadMeasurement()
START = 1000.0


class Run:
    """An update every ten seconds from 1010 on."""

    def __init__(self, choices=6, resumed=None, start=START):
        self.now = start
        self.aggregator = SanctumAggregator(
            Heads.of({"op": choices}), RunInfo("run"), resumed=resumed, clock=lambda: self.now
        )

    def after(self, *updates):
        for measured in updates:
            self.now += 10.0
            self.aggregator.handle_ppo_update(PPOUpdatePayload(heads={"op": measured}))
        return {
            condition.value: since
            for condition, since in self.aggregator.snapshot().tamiyo.readings["op"].conditions
        }


@pytest.mark.parametrize(
    ("measured", "conditions"),
    [
        (GOOD, {}),
        (LOW, {"warning": 1010, "low": 1010}),
        (BAD, {"warning": 1010, "critical": 1010, "low": 1010, "collapsed": 1010}),
        (DEAD, {"warning": 1010, "critical": 1010, "low": 1010, "collapsed": 1010, "dead": 1010}),
        (EXPLODING, {"exploding": 1010}),
        (STARVED, {"starved": 1010, "idle": 1010}),
        (CLOSED, {"idle": 1010}),
        (NOTHING, {"idle": 1010, "unmeasured": 1010}),
    ],
)
def test_a_condition_is_there_from_its_third_update_on_and_tells_when_it_began(measured, conditions):
    run = Run()
    assert run.after() == run.after(measured, measured) == {}
    assert run.after(measured) == run.after(measured, measured) == conditions


def test_each_condition_begins_at_its_own_time():
    run = Run()
    assert run.after(GOOD, LOW, BAD, DEAD) == {"warning": 1020, "low": 1020}
    assert run.after(DEAD) == {"warning": 1020, "critical": 1030, "low": 1020, "collapsed": 1030}
    assert run.after(DEAD) == {"warning": 1020, "critical": 1030, "low": 1020, "collapsed": 1030, "dead": 1040}
    assert run.after(BAD) == {"warning": 1020, "critical": 1030, "low": 1020, "collapsed": 1030}
    assert run.after(GOOD) == {}
    assert run.after(BAD, BAD) == {}
    assert run.after(BAD) == {"warning": 1090, "critical": 1090, "low": 1090, "collapsed": 1090}


def test_updates_that_say_nothing_neither_add_to_a_condition_nor_end_it():
    run = Run()
    assert run.after(BAD, BAD, NOTHING, STARVED) == {}
    assert run.after(BAD) == {"warning": 1010, "critical": 1010, "low": 1010, "collapsed": 1010}
    assert run.after(CLOSED, CLOSED, CLOSED) == {
        "warning": 1010,
        "critical": 1010,
        "low": 1010,
        "collapsed": 1010,
        "idle": 1060,
    }
    starved = Run()
    assert starved.after(STARVED, NOTHING, STARVED, STARVED) == {"starved": 1010, "idle": 1010}
    assert starved.after(CLOSED) == {"idle": 1010}


def test_idle_and_unmeasured_have_beginnings_of_their_own():
    run = Run()
    assert run.after(GOOD, NOTHING, NOTHING) == {}
    assert run.after(NOTHING) == {"idle": 1020, "unmeasured": 1020}
    assert run.after(STARVED) == {"idle": 1020}
    assert run.after(GOOD) == {}


def test_a_head_that_can_never_decide_is_not_idle():
    assert Run(choices=1).after(*[HeadMeasurement(0.0)] * 4) == {}


def test_what_held_when_a_run_goes_on_counts_as_having_begun_then():
    run = Run()
    run.after(BAD, BAD, BAD)
    resumed = Run(resumed=run.aggregator.snapshot(), start=5000.0)
    assert resumed.after() == {"warning": 5000, "critical": 5000, "low": 5000, "collapsed": 5000}
    assert resumed.after(STARVED, NOTHING) == {
        "warning": 5000,
        "critical": 5000,
        "low": 5000,
        "collapsed": 5000,
    }
    assert resumed.after(CLOSED) == {
        "warning": 5000,
        "critical": 5000,
        "low": 5000,
        "collapsed": 5000,
        "idle": 5010,
    }


def test_a_head_without_a_choice_is_still_without_one_when_the_run_goes_on():
    run = Run()
    run.after(BAD, BAD, BAD, STARVED, STARVED, STARVED)
    resumed = Run(resumed=run.aggregator.snapshot(), start=5000.0)
    assert resumed.after() == {
        "warning": 5000,
        "critical": 5000,
        "low": 5000,
        "collapsed": 5000,
        "starved": 5000,
        "idle": 1040,
    }
    assert resumed.after(BAD) == {"warning": 5000, "critical": 5000, "low": 5000, "collapsed": 5000}


def test_conditions_survive_the_way_over_metrics():
    run = Run()
    run.after(DEAD, DEAD, DEAD, NOTHING, NOTHING, NOTHING)
    snapshot = run.aggregator.snapshot()
    conditions = snapshot.tamiyo.readings["op"].conditions
    assert [condition for condition, _ in conditions] == [
        Condition.WARNING,
        Condition.CRITICAL,
        Condition.LOW,
        Condition.COLLAPSED,
        Condition.DEAD,
        Condition.IDLE,
        Condition.UNMEASURED,
    ]
    body = Renderer(lambda: snapshot).render("")[0].decode()
    assert 'since_timestamp_seconds{condition="dead",head="op",run_id="run"} 1010.0' in body
    assert parse_snapshot(body).tamiyo.readings["op"].conditions == conditions
