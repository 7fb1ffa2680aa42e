"""The PromQL of runs, alerts and panels, and of what is missing, evaluated by promtool on made-up series."""

import itertools

import pytest

from rl_dashboards import alert_queries, missing, queries, ranking, verdict_queries
from rl_dashboards.missing import Missing
from rl_dashboards.queries import RunPhase
from rl_dashboards.ranking import ENDED, IN_TROUBLE, PAGES, STALLED, UNJUDGED, place_of
from rl_dashboards.verdict_queries import Verdict
from tests.grafana.made_up_series import WATCHDOG, alert, expect, head, held, of_heads, run, series
from tests.support.dashboard_files import BOARDS, filled


def test_fleet_has_on_top_what_pages_and_then_goes_by_the_verdict(promtool, tmp_path):
    given = (
        run("loud", worst=Verdict.EXPLODING),
        alert("RLPolicyHeadGradientsExploding", "loud", "critical", head="style"),
        (*run("lost", ended=True), *alert("RLTrainingVanished", "lost", "critical")),
        run("gone", worst=Verdict.COLLAPSED, lowest=0.1),
        run("failed", "failed"),
        run("low", worst=Verdict.LOW, lowest=0.4),
        run("fine"),
        run("solved", worst=Verdict.SETTLED, lowest=0.05),
        run("fresh", updated=None),
        run("over", "completed", ended=True),
    )
    answer = {
        "loud": PAGES + place_of(Verdict.EXPLODING) + 0.75,
        "lost": PAGES + IN_TROUBLE,
        "gone": place_of(Verdict.COLLAPSED) + 0.1,
        "failed": IN_TROUBLE,
        "low": place_of(Verdict.LOW) + 0.4,
        "fine": place_of(Verdict.HEALTHY) + 0.75,
        "solved": place_of(Verdict.SETTLED) + 0.05,
        "fresh": UNJUDGED,
        "over": ENDED,
    }
    assert list(answer.values()) == sorted(answer.values())
    ranks = {f'{{run_id="{name}"}}': place for name, place in answer.items()}
    expect(promtool, tmp_path, ranking.rank(), ranks, *given)


def test_what_pages_stands_before_everything_else():
    order = [place_of(verdict) for verdict in (Verdict.EXPLODING, Verdict.DEAD, Verdict.COLLAPSED)]
    order += [IN_TROUBLE, STALLED, place_of(Verdict.LOW), place_of(Verdict.STARVED)]
    order += [place_of(Verdict.HEALTHY), place_of(Verdict.SETTLED), UNJUDGED, ENDED]
    assert all(before + 1 < after for before, after in itertools.pairwise(order)), "a ratio is at most 1"
    assert min(order) > ENDED + 1 + PAGES


def test_a_stalled_run_that_failed_has_failed(promtool, tmp_path):
    phases = queries.run_phase()
    stalled = [one for one in alert("RLTrainingStalled", "a", "warning") if one["series"].startswith("ALERTS{")]
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 1}, stalled, run("a"))
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 4}, stalled, run("a", "failed"))
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 5}, stalled, run("a", ended=True))


@pytest.mark.parametrize("updated", [240, None])
def test_a_run_that_went_on_elsewhere_ended_as_it_did_there(updated, promtool, tmp_path):
    """Where it started last, if it made no update there: the node that it was lost on says no more of it."""
    first, second = {"job": "rl-training", "instance": "a:1"}, {"job": "rl-training", "instance": "b:1"}
    lost = (
        *head("op", "r", 2, 0.1, ended=True, state="dead", **first),
        *run("r", ended=True, updated=60, **first),
    )
    went_on = run("r", "completed", ended=True, updated=updated, started=120, **second)
    given = (lost, (*head("op", "r", 0, 0.9, ended=True, **second), *went_on))
    expect(promtool, tmp_path, queries.run_phase(), {'{run_id="r"}': int(RunPhase.COMPLETED)}, *given)
    expect(promtool, tmp_path, ranking.rank(), {'{run_id="r"}': ENDED}, *given)
    for expression, answer in (
        (queries.latest_ratio(queries.RATIO), 0.9),
        (queries.latest_ratio(queries.LEVEL, "max"), 0),
        (queries.latest(queries.head_state_codes), 0),
    ):
        expect(promtool, tmp_path, expression, {'{head="op"}': answer}, *given)
    counts = {panel["title"]: panel["targets"][0]["expr"] for panel in BOARDS["rl-fleet"]["panels"][:8]}
    for title, number in (("Failed, lost", 0), ("Ended", 1)):
        expect(promtool, tmp_path, counts[title], {"{}": number}, *given)


def test_a_count_says_what_is_missing_instead_of_zero(promtool, tmp_path):
    low = f"{verdict_queries.verdicts_of_runs()} == {int(Verdict.LOW)}"
    count = missing.counted(low, verdict_queries.verdicts_of_runs())
    cases = {
        Missing.UPDATE: (run("fresh", updated=None),),
        Missing.RULES: (run("fine", ruled=False), head("op", "fine", 0, 0.75)),
        Missing.RUNNING: (run("over", "completed", ended=True),),
        0: (run("fine"), head("op", "fine", 0, 0.75)),
    }
    for answer, given in cases.items():
        expect(promtool, tmp_path, count, {"{}": int(answer)}, *given)
    within = missing.missing(of_now=False)
    expect(promtool, tmp_path, within, {"{}": int(Missing.RUN)}, WATCHDOG)
    expect(promtool, tmp_path, within, {}, run("over", "completed", ended=True))
    expect(promtool, tmp_path, count, {"{}": 1}, run("bad", worst=Verdict.LOW))


def test_a_head_without_ratio_says_why(promtool, tmp_path):
    most = [series("rl_policy_head_entropy_max_nats", held(1.5), run_id="r", head="op")]
    ratio = missing.ratio_or_why_not()
    expect(promtool, tmp_path, ratio, of_heads(op=Missing.UPDATE), most, run("r", updated=None))
    scraped = [series("rl_policy_head_state", held(1), run_id="r", head="op", state="healthy")]
    expect(promtool, tmp_path, ratio, of_heads(op=Missing.RULES), most, scraped, run("r", ruled=False))
    expect(promtool, tmp_path, ratio, {"{}": int(Missing.RUN)}, WATCHDOG)
    closed = head("op", "r", 0, 0.7, Verdict.NO_CHOICE)[3:]
    expect(promtool, tmp_path, ratio, of_heads(op=missing.NO_CHOICE_RATIO), most, closed, run("r"))


def test_alerts_that_another_explains_notify_nobody(promtool, tmp_path):
    given = (
        alert("RLPolicyHeadDead", "a", "critical", head="op"),
        alert("RLPolicyHeadCollapsed", "a", "critical", head="op"),
        alert("RLPolicyHeadEntropyLow", "a", "warning", head="op"),
        alert("RLPolicyHeadStarved", "a", "warning", head="slot"),
        alert("RLPolicyHeadDiluted", "a", "info", head="tempo"),
        alert("RLTrainingFailed", "b", "critical"),
        alert("RLExporterRecordErrors", "b", "warning"),
        alert("RLPolicyHeadEntropyLow", "c", "warning", head="op"),
        alert("RLPolicyHeadCollapsed", "d", "critical", head="op", state="pending"),
        *(
            alert(name, "e", "critical", head="op")
            for name in ("RLPolicyControllerSaturated", "RLPolicyHeadDead", "RLPolicyHeadCollapsed")
        ),
        WATCHDOG,
    )
    told = {
        ("a", "RLPolicyHeadDead"): 1,
        ("a", "RLPolicyHeadDiluted"): 1,
        ("b", "RLTrainingFailed"): 1,
        ("c", "RLPolicyHeadEntropyLow"): 1,
        ("e", "RLPolicyControllerSaturated"): 1,
    }
    answer = {f'{{alertname="{name}", run_id="{run_id}"}}': one for (run_id, name), one in told.items()}
    counted = f"count by (run_id, alertname) ({alert_queries.notifying()})"
    expect(promtool, tmp_path, counted, answer, *given)
    expect(
        promtool, tmp_path, alert_queries.paging(), {f'{{run_id="{run_id}"}}': 1 for run_id in "abe"}, *given
    )
    urgency = f"count by (urgency) ({alert_queries.listed(queries.RUN)})"
    expect(promtool, tmp_path, urgency, {'{urgency="1"}': 3, '{urgency="2"}': 1, '{urgency="3"}': 1}, *given)


def test_no_alert_is_told_from_no_rules(promtool, tmp_path):
    listed = alert_queries.listed(queries.RUN)
    expect(promtool, tmp_path, listed, {'{alertname="no alert fires"}': -1}, WATCHDOG)
    deaf = '{alertname="no alert rules loaded: nothing can fire"}'
    expect(promtool, tmp_path, listed, {deaf: -1}, run("r", ruled=False))


def test_heads_stand_in_the_order_in_which_the_policy_declares_them(promtool, tmp_path):
    position = [
        series("rl_policy_head_position", held(place), run_id="r", head=name)
        for place, name in enumerate(("op", "blueprint", "alpha"))
    ]
    others = [series("rl_policy_head_entropy_max_nats", held(1), run_id="r", head="new")]
    ratios = [series("x", held(1), run_id="r", head=name) for name in ("op", "blueprint", "alpha", "new")]
    answer = {
        f'{{at="{at}", head="{name}"}}': 1
        for at, name in ((100, "op"), (101, "blueprint"), (102, "alpha"), (900, "new"))
    }
    expect(promtool, tmp_path, queries.in_order("max by (head) (x)"), answer, position, others, ratios)


def test_the_leading_action_is_one_row_for_each_head(promtool, tmp_path):
    shares = [
        series("rl_policy_head_action_ratio", held(share, ended), run_id="r", head=name, action=action)
        for name, action, share, ended in (
            ("op", "WAIT", 0.25, False),
            ("op", "GROW", 0.75, False),
            ("over", "WAIT", 1.0, True),
        )
    ]
    answer = {'{action="GROW", head="op"}': 0.75, '{action="WAIT", head="over"}': 1.0}
    expect(promtool, tmp_path, queries.leading_actions(), answer, shares, run("r"))


def test_neither_line_of_the_total_crosses_the_other_in_a_diluted_run(promtool, tmp_path):
    (panel,) = [p for p in BOARDS["rl-heads"]["panels"] if p["title"].startswith("All heads together")]
    total, weakest = (target["expr"] for target in panel["targets"][:2])
    given = [
        *head("op", "r", 0, 0.8),
        *head("slot", "r", 0, 0.6),
        *(
            series("rl_policy_head_entropy_max_nats", held(most), run_id="r", head=name)
            for name, most in (("op", 3), ("slot", 1))
        ),
        *(series("rl_policy_head_entropy_nats", held(0.1), run_id="r", head=name) for name in ("op", "slot")),
    ]
    one = {"cluster": "", "namespace": "", "run_id": "r", "head": "op"}
    expect(promtool, tmp_path, filled(total, **one), {"{}": (0.8 * 3 + 0.6) / 4}, given)
    expect(promtool, tmp_path, filled(weakest, **one), {"{}": 0.6}, given)
