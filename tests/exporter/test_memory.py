"""A run that resumes judges each head as if it had not stopped; from /metrics alone it says less, and nothing wrong."""

import json
import math
import pickle
import random
from dataclasses import replace

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.aggregator import with_heads
from rl_exporter.client.parse import parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.health import Level
from rl_exporter.memory import HeadMemory, memories_of, memory_states
from tests.support.one_head_run import OneHeadRun

HEAD = Head("op", 4)


def at(ratio, information=0.001):
    return HeadMeasurement(ratio * math.log(4), ratio, 1.0, 1.0, 0.1, state_information=information)


def conditions(reading):
    return [condition.value for condition, _ in reading.conditions]


def body_of(snapshot):
    return parse_snapshot(Renderer(lambda: snapshot).render("")[0].decode())


def pickled(snapshot):
    return pickle.loads(pickle.dumps(snapshot))


def checkpointed(snapshot):
    """As rl-train keeps it: the body, and what the body does not show."""
    states = json.loads(json.dumps(memory_states(snapshot.tamiyo.memories)))
    again = body_of(snapshot)
    return replace(again, tamiyo=replace(again.tamiyo, memories=memories_of(states)))


def without_times(reading):
    return replace(reading, conditions=()), conditions(reading)


def eventful():
    """Noise, a fall, odd updates that look at the state, and updates that say nothing."""
    chance = random.Random(4)
    falling = [at(max(0.8 - 0.06 * update, 0.05) + chance.uniform(-0.04, 0.04)) for update in range(16)]
    odd = [at(0.05, 0.03) if update % 6 == 2 else at(0.05) for update in range(14)]
    nothing = [HeadMeasurement(), HeadMeasurement(1.0, None, 0.0, 0.5)]
    return [*falling[:7], *nothing, *falling[7:], *odd, *nothing, *odd[:3]]


@pytest.mark.parametrize("saved", [pickled, checkpointed])
@pytest.mark.parametrize("reference", ["maximum", "start", 0.7])
def test_a_resume_after_any_update_changes_no_number_and_no_verdict(saved, reference):
    head, updates = Head("op", 4, reference=reference), eventful()
    whole = OneHeadRun(head)
    expected = [without_times(whole.after(one)) for one in updates]
    for stop in range(1, len(updates)):
        former = OneHeadRun(head)
        former.after(*updates[:stop])
        resumed = OneHeadRun(head, saved(former.snapshot))
        found = [without_times(resumed.after()), *(without_times(resumed.after(one)) for one in updates[stop:])]
        assert found == expected[stop - 1 :], f"after update {stop}"


@pytest.mark.parametrize("saved", [pickled, checkpointed])
@pytest.mark.parametrize("former", ["maximum", "start", 0.7])
def test_the_start_of_a_resumed_run_is_its_first_ten_updates_whatever_its_reference_was(saved, former):
    run = OneHeadRun(Head("op", 4, reference=former))
    run.after(*[at(0.9)] * 9)
    resumed = OneHeadRun(Head("op", 4, reference="start"), saved(run.snapshot))
    assert resumed.after().reference is None
    reading = resumed.after(*[at(0.05)] * 10)
    assert reading.reference == pytest.approx(0.9 * math.log(4))
    assert reading.effective == pytest.approx(0.05 / 0.9)
    assert reading.level is Level.CRITICAL
    again = OneHeadRun(Head("op", 4, reference="start"), body_of(resumed.snapshot))
    assert again.after().reference == reading.reference


def test_a_body_of_a_run_that_was_compared_with_its_maximum_knows_no_start():
    run = OneHeadRun(HEAD)
    run.after(*[at(0.08)] * 20)
    resumed = OneHeadRun(Head("op", 4, reference="start"), body_of(run.snapshot))
    assert resumed.after(*[at(0.08)] * 9).reference is None
    reading = resumed.after(at(0.08))
    assert (reading.effective, reading.level) == (pytest.approx(1.0), Level.HEALTHY)


@pytest.mark.parametrize("before", [3, 9, 40])
def test_from_a_body_alone_there_is_no_slope_until_its_window_is_whole(before):
    chance = random.Random(3)
    run = OneHeadRun(HEAD)
    former = run.after(*[at(0.6 + chance.uniform(-0.1, 0.1)) for _ in range(before)])
    resumed = OneHeadRun(HEAD, resumed=body_of(run.snapshot))
    assert resumed.after().slope == former.slope
    for _ in range(9):
        assert resumed.after(at(0.6 + chance.uniform(-0.1, 0.1))).slope is None
    assert resumed.after(at(0.6)).slope is not None


def test_from_a_body_alone_an_odd_update_still_ends_nothing_and_several_do():
    run = OneHeadRun(HEAD)
    held = conditions(run.after(*[at(0.05)] * 30))
    assert held == ["warning", "critical", "low", "collapsed"]
    resumed = OneHeadRun(HEAD, resumed=body_of(run.snapshot))
    for odd in (at(0.05, 0.03), at(0.05), at(0.05, 0.03), at(0.05)):
        assert conditions(resumed.after(odd)) == held
    assert conditions(resumed.after(*[at(0.05, 0.5)] * 3)) == ["warning", "critical", "settled"]


@pytest.mark.parametrize(
    "changed", [{"reference": "start"}, {"reference": 0.1}, {"warning": 0.0, "critical": 0.0}]
)
@pytest.mark.parametrize("saved", [pickled, checkpointed, body_of])
def test_what_was_judged_by_another_measure_does_not_count_after_a_resume(saved, changed):
    run = OneHeadRun(HEAD)
    run.after(*[HeadMeasurement(0.1, 0.07, 1.0, 1.0, 0.001, state_information=0.001)] * 20)
    assert "dead" in conditions(run.after())
    resumed = OneHeadRun(replace(HEAD, **changed), saved(run.snapshot))
    assert resumed.after().conditions == ()
    assert resumed.after().critical_streak == 0
    if "reference" in changed:
        assert [resumed.after(at(0.07)).slope for _ in range(9)] == [None] * 9


def test_a_head_of_another_size_starts_without_memory():
    heads = Heads([HEAD, Head("arm", 3)])
    former = SanctumAggregator(heads, RunInfo("run"))
    former.handle_ppo_update(PPOUpdatePayload(heads={"op": at(0.5), "arm": HeadMeasurement(1.0)}))
    changed = with_heads(former.snapshot(), Heads([HEAD, Head("arm", 5)]))
    assert [name for name, _ in changed.tamiyo.memories] == ["op"]
    assert (
        dict(
            SanctumAggregator(changed.tamiyo.heads, RunInfo("run"), resumed=changed).snapshot().tamiyo.memories
        )["arm"]
        == HeadMemory()
    )
