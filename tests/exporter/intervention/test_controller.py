"""The entropy controller: from snapshots to coefficients, what it refuses, and what it says of itself."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.client.parse import parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.intervention import EntropyController
from rl_exporter.intervention.law import HeadControl
from rl_exporter.view.document import document

HEADS = Heads([Head("op", 6, 1.0), Head("blueprint", 13, 1.3), Head("only", 1)])
BASE = 0.01
TARGETS = {"op": 0.4, "blueprint": 0.5}


class Run:
    """A run whose updates measure what a test says."""

    def __init__(self, heads=HEADS, resumed=None):
        self.aggregator = SanctumAggregator(heads, RunInfo("run"), entropy_coefficient=BASE, resumed=resumed)

    def update(self, ratio=None, information=0.0, *, heads=("op", "blueprint"), numbers=None, **measured):
        found = {"choice_entropy": ratio, "choice_share": 0.5, "open_share": 0.5, "entropy": 1.0, **measured}
        if information is not None:
            found |= {"state_information": information, "state_information_ratio": information}
        of_heads = {name: HeadMeasurement(**found) for name in heads}
        self.aggregator.handle_ppo_update(PPOUpdatePayload(heads=of_heads, **(numbers or {})))
        return self.snapshot

    @property
    def snapshot(self):
        return self.aggregator.snapshot()


def low(run, controller, updates=4, **measured):
    for _ in range(updates):
        coefficients = controller.coefficients(run.update(0.05, **measured))
    return coefficients


def rendered(snapshot):
    return Renderer(lambda: snapshot).render("")[0].decode()


def untouched():
    return {head.name: BASE * head.entropy_multiplier for head in HEADS}


def test_a_low_and_blind_head_gets_more_and_another_does_not():
    run, controller = Run(), EntropyController(HEADS, {"op": 0.4})
    found = low(run, controller)
    assert found["op"] > 0.28
    assert {name: found[name] for name in ("blueprint", "only")} == {
        name: untouched()[name] for name in ("blueprint", "only")
    }
    assert found["op"] == BASE + controller.controls["op"].added
    assert controller.coefficients(run.snapshot, base=0.5)["op"] == 0.5 + controller.controls["op"].added


def test_it_needs_neither_torch_nor_numpy():
    code = "import sys, rl_exporter.intervention; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.parametrize(("ratio", "information"), [(0.8, 0.0), (0.05, 0.5), (0.45, 0.3)])
def test_healthy_and_settled_heads_are_left_alone(ratio, information):
    run, controller = Run(), EntropyController(HEADS, TARGETS)
    for _ in range(30):
        assert controller.coefficients(run.update(ratio, information)) == untouched()
    assert controller.numbers()["interventions_raised"] == dict.fromkeys(TARGETS, 0.0)


def test_a_snapshot_without_news_changes_nothing():
    run, controller = Run(), EntropyController(HEADS, TARGETS)
    assert controller.coefficients(run.snapshot) == untouched()  # before the first update
    found = low(run, controller)
    controls = controller.controls
    for _ in range(5):
        assert controller.coefficients(run.snapshot) == found  # the same one again
    run.update(None, choice_share=0.0)  # no choice step
    assert controller.coefficients(run.snapshot) == found
    run.aggregator.handle_ppo_update(PPOUpdatePayload())  # nothing measured
    assert controller.coefficients(run.snapshot) == found
    run.update(math.nan)
    assert controller.coefficients(run.snapshot) == found
    assert controller.controls == controls
    assert controller.coefficients(run.update(0.05)) != found


def test_a_snapshot_of_another_policy_changes_nothing():
    run, controller = Run(), EntropyController(HEADS, TARGETS)
    found = low(run, controller)
    assert controller.coefficients(Run(Heads.of({"arm": 3})).snapshot) == found


def test_observing_adds_nothing_and_says_what_it_would_have_added():
    run, controller = Run(), EntropyController(HEADS, TARGETS, mode="observe")
    acting = EntropyController(HEADS, TARGETS)
    assert low(run, controller) == untouched()
    acting_coefficients = low(Run(), acting)
    numbers = controller.numbers(BASE)
    assert numbers["entropy_coefficient_applied"] == pytest.approx({"op": 0.01, "blueprint": 0.013})
    assert numbers["entropy_coefficient_proposed"] == {name: acting_coefficients[name] for name in TARGETS}
    assert numbers["interventions_raised"] == {"op": 0.0, "blueprint": 0.0}
    assert "controller_saturated" not in numbers
    assert set(acting.numbers(BASE)) == {
        "entropy_target", "entropy_coefficient_applied", "interventions_raised", "interventions_released",
        "controller_saturated",
    }  # fmt: skip


def test_its_numbers_arrive_on_metrics_and_in_the_document():
    from rl_exporter import serve

    controller = EntropyController(HEADS, {"op": 0.4})
    low(Run(), controller)
    with serve(HEADS, run_id="r", listen="127.0.0.1:0", linger=0) as recorder:
        recorder.record({"op": 1.0}, entropy_coefficient=BASE, **controller.numbers(BASE))
        text = Renderer(recorder.snapshot).render("")[0].decode()
        (op, *_) = document(recorder.snapshot())["heads"]
    assert 'rl_policy_head_entropy_target_ratio{head="op",run_id="r"} 0.4\n' in text
    assert 'rl_policy_head_interventions_total{direction="raise",head="op",run_id="r"} 3.0\n' in text
    assert 'rl_policy_head_interventions_total{direction="release",head="op",run_id="r"} 0.0\n' in text
    assert 'rl_policy_head_controller_saturated_updates{head="op",run_id="r"} 0.0\n' in text
    assert op["entropy_coefficient_applied"] == BASE + controller.controls["op"].added
    assert "proposed{" not in text
    assert text.count("rl_policy_head_entropy_target_ratio{") == 1


def test_a_run_without_a_controller_has_none_of_its_series():
    run = Run()
    run.update(0.5)
    text = Renderer(lambda: run.snapshot).render("")[0].decode()
    assert "rl_policy_head_entropy_coefficient{" in text
    assert not [line for line in text.splitlines() if "interventions" in line and not line.startswith("#")]


def test_the_state_goes_through_json_and_the_law_goes_on():
    run, controller = Run(), EntropyController(HEADS, TARGETS)
    low(run, controller)
    other = EntropyController(HEADS, TARGETS)
    other.restore(json.loads(json.dumps(controller.state())))
    assert other.adding == controller.adding
    following = run.update(0.05)
    assert other.coefficients(following) == controller.coefficients(following)
    # A head that had no target starts anew, and one that lost its target is forgotten.
    changed = EntropyController(HEADS, {"op": 0.3})
    changed.restore(controller.state())
    assert changed.controls == {"op": controller.controls["op"]}


@pytest.mark.parametrize(
    "damage",
    [{"op": 3}, {"op": {}}, {"op": {"integral": "x"}}, ["op"], {"op": {"integral": math.nan}},
     {"op": {"added": -1.0}}, {"op": {"seen": True}}, {"op": {"acted": 2}}, {"op": {"acted": []}}],
)  # fmt: skip
def test_what_is_no_state_is_refused_and_nothing_changes(damage):
    controller = EntropyController(HEADS, {"op": 0.4})
    low(Run(), controller)
    controls = controller.controls
    state = controller.state()
    if isinstance(damage, dict) and isinstance(damage["op"], dict) and damage["op"]:
        damage = {"op": state["op"] | damage["op"]}
    with pytest.raises(ValueError, match=r"no state of a controller.*start anew"):
        controller.restore(damage)
    assert controller.controls == controls


@pytest.mark.parametrize(
    ("targets", "why"),
    [({}, "no head has a target"), ({"op": 0.0}, "target 0.0; give a number between 0 and 1"),
     ({"op": 1.0}, "between 0 and 1"), ({"op": math.nan}, "between 0 and 1"), ({"op": True}, "between 0 and 1"),
     ({"op": "0.4"}, "between 0 and 1"), ({"arm": 0.4}, "unknown head 'arm'; declared heads: op, blueprint, only"),
     ({"only": 0.4}, "head 'only' has one choice"), ({"op": 0.25}, "critical threshold 0.25.*higher target")],
)  # fmt: skip
def test_impossible_targets_are_refused_in_one_line(targets, why):
    with pytest.raises(ValueError, match=why) as refused:
        EntropyController(HEADS, targets)
    assert "\n" not in str(refused.value)


def test_an_unknown_mode_and_an_unknown_base_are_refused():
    with pytest.raises(ValueError, match="give on or observe"):
        EntropyController(HEADS, TARGETS, mode="off")
    aggregator = SanctumAggregator(HEADS, RunInfo("run"))
    with pytest.raises(ValueError, match="base coefficient is not known"):
        EntropyController(HEADS, TARGETS).coefficients(aggregator.snapshot())


def test_interventions_by_head_and_direction():
    run, controller = Run(), EntropyController(HEADS, {"op": 0.4})
    low(run, controller, 3)
    before = controller.controls["op"]
    assert before.raised > before.released == 0
    controller.coefficients(run.update(0.9))
    after = controller.controls["op"]
    assert (after.raised, after.released) == (before.raised, 1)
    assert controller.controls.keys() == {"op"}


def controlled(run, controller, *ratios):
    """What the head got in each update, and what the run then said of the interventions."""
    for ratio in ratios:
        applied = controller.adding["op"] if controller else 0.0
        measured = {"op": HeadMeasurement(1.0, ratio, 0.5, 0.5, state_information=0.0)}
        heads = controller.described(measured, BASE) if controller else measured
        run.aggregator.handle_ppo_update(PPOUpdatePayload(heads=heads))
        if controller:
            controller.added(run.snapshot)
        reading = run.snapshot.tamiyo.readings["op"]
        yield applied, reading.interventions_raised or 0.0, reading.interventions_released or 0.0


@pytest.mark.parametrize("restores", [True, False])
@pytest.mark.parametrize("saved", [lambda snapshot: snapshot, lambda s: parse_snapshot(rendered(s))])
def test_counters_are_of_what_was_applied_and_never_go_backwards_whatever_the_mode_becomes(saved, restores):
    found, snapshot, state = [], None, {}
    for mode in ("on", "off", "on", "observe", "on", "on", "off"):
        run = Run(resumed=snapshot)
        controller = None if mode == "off" else EntropyController(HEADS, {"op": 0.4}, mode=mode)
        if controller and restores:
            controller.restore(state)
        found.append(list(controlled(run, controller, *[0.05] * 4, *[0.9] * 2, *[0.05] * 3)))
        state, snapshot = controller.state() if controller else {}, saved(run.snapshot)
    applied, raised, released = zip(*(update for updates in found for update in updates), strict=True)
    assert sorted(raised) == list(raised)
    assert sorted(released) == list(released)
    moves = [other - one for one, other in pairwise(applied)]
    assert max(moves) <= 0.5
    assert raised[-1] == sum(move > 0 for move in moves) > 8
    within = [other[0] - one[0] for updates in found for one, other in pairwise(updates)]
    assert released[-1] == sum(move < 0 for move in within) > 4, (
        "a controller that is switched off releases nothing"
    )


def test_one_that_observed_begins_to_act_with_nothing_added():
    run, observing = Run(), EntropyController(HEADS, {"op": 0.4}, mode="observe")
    list(controlled(run, observing, *[0.05] * 35))
    assert observing.controls["op"].added == 1.0
    assert observing.controls["op"].saturated > 20
    acting = EntropyController(HEADS, {"op": 0.4})
    acting.restore(json.loads(json.dumps(observing.state())))
    begun = acting.controls["op"]
    assert (begun.added, begun.integral, begun.saturated, begun.raised, begun.released) == (0.0, 0.0, 0, 0, 0)
    applied = [added for added, *_ in controlled(run, acting, *[0.05] * 4)]
    assert applied[0] == 0.0
    assert 0.0 < applied[1] <= 0.5
    assert run.snapshot.tamiyo.readings["op"].controller_saturated == 0.0


def test_a_state_of_a_former_version_that_observed_has_no_interventions():
    observing = EntropyController(HEADS, {"op": 0.4}, mode="observe")
    observing.restore({"op": asdict(HeadControl(integral=0.5, added=0.5, raised=5, seen=9))})
    assert observing.numbers()["interventions_raised"] == {"op": 0.0}
    assert observing.controls["op"].added == 0.5
