"""The labelled cohort: a part of it trains here; replay, scores and margins are held to examples."""

import json
import math
from dataclasses import replace

import pytest

from benchmarks.cohort import QUICK, log_path, train_missing
from benchmarks.cohort_runs.judgement import Result, score
from benchmarks.cohort_runs.kinds import recipes, runs
from benchmarks.cohort_runs.log import RunLog, Update, read_log
from benchmarks.cohort_runs.margin import CANDIDATES, MEASURES, absolute, needed, relative
from benchmarks.cohort_runs.promtool import difference
from benchmarks.cohort_runs.recipe import Label, Recipe
from benchmarks.cohort_runs.replay import ALL_HEADS, PERIODS, Rule, replay
from benchmarks.cohort_runs.report import MARKS, written
from rl_exporter.heads import Heads
from rl_exporter.health import BLIND_BELOW, BLIND_RATIO_BELOW
from rl_exporter.payload import HeadMeasurement
from tests.support import ROOT

HEADS = Heads.of({"op": 6, "slot": 3})


def measured(ratio, information, head="op"):
    most = HEADS.named(head).max_entropy
    return HeadMeasurement(
        entropy=ratio * most,
        choice_entropy=ratio,
        choice_share=1.0,
        open_share=1.0,
        state_information=information,
    )


def run_log(*updates):
    """Of pairs (ratio, state information) of head op; slot stays healthy."""
    return RunLog(
        HEADS,
        tuple(Update({"op": measured(*one), "slot": measured(0.9, 0.0, "slot")}, 10.0) for one in updates),
    )


def recipe(label, **rest):
    return Recipe(name="kind", label=label, why="because", seeds=1, **rest)


HEALTHY, COLLAPSED, SOLVED = (0.9, 0.0), (0.1, 0.0), (0.1, 0.9)


@pytest.mark.parametrize("period", PERIODS)
def test_a_collapse_pages_after_three_updates_and_a_minute(period):
    log = run_log(*[HEALTHY] * 5, *[COLLAPSED] * 200)
    updates = max(3, math.floor(60 / period) + 1)
    fired = replay(log, period)
    assert fired[Rule.VERDICT, "op"] == fired[Rule.CHOICE, "op"] == 5 + updates
    assert {head for _, head in fired} == {"op"}


@pytest.mark.parametrize("period", PERIODS)
def test_a_solved_head_pages_only_the_rules_that_do_not_ask_for_the_state(period):
    rules = {rule for rule, _ in replay(run_log(*[HEALTHY] * 5, *[SOLVED] * 200), period)}
    assert rules == {Rule.CHOICE, Rule.NORMALIZED}


def test_a_paid_collapse_is_told_apart():
    paid = replace(measured(0.1, 0.0), advantage_margin_t=9.0)
    log = RunLog(HEADS, (Update({"op": paid}, 1.0),) * 9)
    assert (Rule.VERDICT, "op") in replay(log, 30.0)
    assert (Rule.UNPAID, "op") not in replay(log, 30.0)
    assert (Rule.UNPAID, "op") in replay(run_log(*[COLLAPSED] * 9), 30.0)


def test_the_aggregate_hides_a_collapse_and_sees_only_that_of_everything():
    assert (Rule.AGGREGATE, ALL_HEADS) not in replay(run_log(*[COLLAPSED] * 9), 30.0)
    both = {"op": measured(0.1, 0.0), "slot": measured(0.1, 0.0, "slot")}
    assert replay(RunLog(HEADS, (Update(both, 1.0),) * 9), 30.0)[Rule.AGGREGATE, ALL_HEADS] == 3


def test_a_run_goes_on_as_it_ended():
    """Fifteen updates at one a second span no minute; what they end in goes on, a dip does not."""
    assert (Rule.VERDICT, "op") in replay(run_log(*[HEALTHY] * 5, *[COLLAPSED] * 10), 1.0)
    assert (Rule.VERDICT, "op") not in replay(run_log(*[COLLAPSED] * 10, *[HEALTHY] * 5), 1.0)


def test_false_pages_and_recall_follow_from_the_label():
    log = run_log(*[HEALTHY] * 5, *[COLLAPSED] * 9)
    right = Result(recipe(Label.COLLAPSED, heads=("op",)), 0, log)
    missed = Result(recipe(Label.COLLAPSED, heads=("slot",)), 0, log)
    false = Result(recipe(Label.LEARNED), 0, log)
    found = score([right, missed, false], Rule.VERDICT, 30.0)
    assert (found.collapses, found.recalled, found.median_updates) == (2, 1, 8)
    # The page for op in the run whose slot should have collapsed, and the one in the run that learned.
    assert (found.false_pages, found.falsely_paged_runs) == (2, 2)
    constant = Result(recipe(Label.CONSTANT), 0, log)
    assert score([constant], Rule.VERDICT, 30.0).false_pages == 0


def test_a_run_with_another_return_is_not_of_its_kind():
    log = run_log(HEALTHY)
    assert Result(recipe(Label.LEARNED, returns=(9.0, 11.0)), 0, log).of_its_kind
    assert not Result(recipe(Label.LEARNED, returns=(15.0, 16.0)), 0, log).of_its_kind


def test_a_head_needs_the_smallest_of_the_largest_of_three_low_updates():
    result = Result(
        recipe(Label.LEARNED),
        0,
        run_log((0.2, 0.4), (0.2, 0.3), (0.2, 0.5), (0.2, 0.1), (0.9, 0.0), (0.1, 0.0)),
    )
    assert needed(result, "op", absolute, 0.25, 600.0).threshold == 0.5
    assert needed(result, "op", absolute, 0.15, 600.0) is None
    assert needed(result, "slot", absolute, 0.5, 600.0) is None
    # At one update a second a minute takes 61 of them; the end, a healthy update among ten, goes on.
    assert needed(result, "op", absolute, 0.25, 1.0) is None


def test_relative_state_information_is_a_share_of_the_uncertainty():
    assert relative(HeadMeasurement(state_information=0.4, state_information_ratio=0.5)) == 0.5
    assert all(measure(HeadMeasurement()) == 0.0 for measure in MEASURES.values())


def test_the_cohort_has_120_runs_of_ten_kinds_and_each_label():
    names = [kind.name for kind in recipes()]
    assert len(set(names)) == len(names) >= 10
    assert len(runs(recipes())) >= 120
    assert {kind.label for kind in recipes()} == set(Label)
    assert set(QUICK) <= set(names)


@pytest.mark.parametrize("critic", MARKS)
def test_the_page_has_the_markers(critic):
    page = (ROOT / "docs/verdict.md").read_text()
    begin, end = MARKS[critic]
    result = Result(recipe(Label.COLLAPSED, heads=("op",)), 0, run_log(*[COLLAPSED] * 9))
    new = written(page, [result], critic)
    assert new.partition(begin)[0] == page.partition(begin)[0]
    assert new.partition(end)[2] == page.partition(end)[2]
    assert "1 runs of 1 kinds" in new
    with pytest.raises(ValueError, match="lacks"):
        written("", [result], critic)


def test_every_kind_but_the_stuck_ones_is_there_with_either_critic():
    shared, own = recipes(), recipes("own")
    assert [kind.name for kind in shared if kind.label is not Label.STUCK] == [kind.name for kind in own]
    assert {kind.learning.critic for kind in shared} == {"shared"}
    assert {kind.learning.critic for kind in own} == {"own"}


def test_the_page_says_what_counts_as_blind():
    page = " ".join((ROOT / "docs/verdict.md").read_text().split())
    told = (
        f"A head counts as *blind* where `I` is below {BLIND_BELOW:g} nats, or `D` below {BLIND_RATIO_BELOW:g}"
    )
    assert told in page
    # The last table judges the rule of the exporter as one candidate of several.
    assert ("either: the smaller of 5 I and D", 5 * BLIND_BELOW) in CANDIDATES
    assert 5 * BLIND_BELOW == BLIND_RATIO_BELOW


def test_an_old_number_in_a_log_is_not_measured_again(tmp_path):
    line = {
        "rl_policy_head_entropy_max_nats": {"op": math.log(6)},
        "rl_policy_head_entropy_nats": {"op": 0.5},
        "rl_policy_head_choice_entropy_ratio": {"op": 0.3},
        "rl_policy_head_unmeasured_updates": {"op": 0.0},
    }
    old = {**line, "rl_policy_head_unmeasured_updates": {"op": 1.0}}
    path = tmp_path / "log.jsonl"
    path.write_text(f"{json.dumps(line)}\n{json.dumps(old)}\n")
    log = read_log(path)
    assert log.heads.sizes == (("op", 6),)
    assert [update.heads["op"].entropy for update in log.updates] == [0.5, None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One drill and one solved run."""
    folder = tmp_path_factory.mktemp("cohort")
    wanted = [(kind, 0) for kind in recipes() if kind.name in {"drill-blueprint", "solved-6-contexts"}]
    train_missing(wanted, folder, processes=2)
    return {kind.name: Result(kind, 0, read_log(log_path(folder, kind, 0))) for kind, _ in wanted}


@pytest.mark.slow
@pytest.mark.parametrize("period", PERIODS)
def test_a_real_drill_pages_and_a_real_solved_run_does_not(trained, period):
    drill, solved = trained["drill-blueprint"], trained["solved-6-contexts"]
    assert drill.of_its_kind
    assert solved.of_its_kind
    assert set(drill.pages(Rule.VERDICT, period)) == {"blueprint"}
    assert solved.pages(Rule.VERDICT, period) == {}
    assert solved.pages(Rule.WARNING, period) == {}
    # What makes the difference: without state information, the solved run pages.
    assert len(solved.pages(Rule.CHOICE, period)) >= 3


@pytest.mark.slow
def test_the_shipped_rules_do_what_the_replay_does(trained, promtool, tmp_path):
    for result in trained.values():
        assert difference(result.log, 30.0, promtool, ROOT, tmp_path) == ""
