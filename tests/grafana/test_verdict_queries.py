"""The PromQL of the verdicts, evaluated by promtool on made-up series."""

import json
import subprocess

from rl_dashboards import alert_queries, missing, queries, ranking, style, verdict_queries
from rl_dashboards.missing import Missing
from rl_dashboards.queries import HEAD_KEY, RUN_KEY
from rl_dashboards.ranking import ENDED, IN_TROUBLE, PAGES, UNJUDGED, place_of
from rl_dashboards.verdict_queries import Verdict
from tests.support.dashboard_files import BOARDS, filled

RATIO, LEVEL = "head:rl_policy_effective_entropy:ratio", "head:rl_policy_effective_entropy:level"
VERDICT = "head:rl_policy_verdict:code"
MINUTES = 10
ENDS = 5
"""Minutes after which the series of an ended run are gone."""


def series(metric, values, **labels):
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{metric}{{{inside}}}", "values": values}


def held(value, ended=False):
    """A series with one value, to the end or until the run ends."""
    return f"{value:g}x{ENDS - 1} stale" if ended else f"{value:g}x{MINUTES}"


def head(
    name, run, level, ratio, verdict=Verdict.HEALTHY, *, ended=False, recorded=None, state="healthy", **target
):
    """One head as scrapes and rules would leave it; a verdict may be the values of its series."""
    labels = {"run_id": run, "head": name, **target}
    ruled = labels | (recorded or {})
    verdicts = verdict if isinstance(verdict, str) else held(int(verdict), ended)
    return [
        series(VERDICT, verdicts, **ruled),
        series(LEVEL, held(level, ended), **ruled),
        series(RATIO, held(ratio, ended), **ruled),
        series("rl_policy_head_choice_steps_ratio", held(verdict != Verdict.NO_CHOICE, ended), **labels),
        series("rl_policy_head_state", held(1, ended), state=state, **labels),
    ]


def run(
    name, state="running", *, ended=False, updated=240, worst=Verdict.HEALTHY, lowest=0.75, ruled=True, **target
):
    """The series of a run as a whole; ``worst`` is the verdict on its worst head, ``lowest`` the lowest ratio."""
    labels = {"run_id": name, **target}
    of_run = [
        series("rl_training_run_state", held(1, ended), state=state, **labels),
        series("rl_training_run_info", held(1, ended), **labels),
    ]
    if updated is not None:
        of_run.append(series("rl_training_last_update_timestamp_seconds", held(updated, ended), **labels))
    if ruled and state == "running":
        of_run.append(series("run:rl_training_run_state:running", held(1, ended), **labels))
        if updated is not None:
            of_run.append(series("run:rl_policy_verdict:worst", held(int(worst), ended), **labels))
            of_run.append(series("run:rl_policy_effective_entropy:lowest", held(lowest, ended), **labels))
    return of_run


def expect(promtool, folder, expression, answer, *given):
    """Asked at the last minute, the expression has exactly these answers: value by labels."""
    expected = [{"labels": labels, "value": value} for labels, value in answer.items()]
    asked = {"expr": filled(expression), "eval_time": f"{MINUTES}m", "exp_samples": expected}
    input_series = [one for group in given for one in group]
    test = {"interval": "1m", "input_series": input_series, "promql_expr_test": [asked]}
    path = folder / "test.yml"
    path.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    result = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def of_heads(**verdicts):
    return {f'{{head="{name}"}}': int(verdict) for name, verdict in verdicts.items()}


def test_the_verdict_of_now_is_the_recorded_one(promtool, tmp_path):
    given = [head(verdict.name, "r", 0, 0.5, verdict) for verdict in Verdict]
    answer = of_heads(**{verdict.name: verdict for verdict in Verdict})
    for expression in (verdict_queries.verdicts_now(), verdict_queries.verdicts()):
        expect(promtool, tmp_path, expression, answer, *given, run("r"))
    over = of_heads(**{verdict.name: verdict + 100 for verdict in Verdict})
    expect(promtool, tmp_path, verdict_queries.verdicts(ended=100), over, *given, run("r", "failed"))


def test_an_ended_run_keeps_its_last_verdict(promtool, tmp_path):
    given = (
        head("gone", "r", 2, 0.1, Verdict.COLLAPSED, ended=True),
        head("settled", "r", 2, 0.1, "5 5 1 1 stale"),
        head("recovered", "r", 0, 0.9, "7 7 0 0 stale"),
        run("r", ended=True),
    )
    answer = of_heads(gone=Verdict.COLLAPSED, settled=Verdict.SETTLED, recovered=Verdict.HEALTHY)
    expect(promtool, tmp_path, verdict_queries.verdicts(), answer, *given)


def test_a_run_that_went_on_elsewhere_ended_as_it_did_there(promtool, tmp_path):
    first = {"job": "rl-training", "instance": "a:1"}
    given = (
        (*head("op", "r", 2, 0.1, "5 5 stale", **first), *run("r", ended=True, updated=60, **first)),
        (*head("op", "r", 0, 0.9, ended=True, instance="b:1"), *run("r", ended=True, instance="b:1")),
    )
    expect(promtool, tmp_path, verdict_queries.verdicts(), of_heads(op=Verdict.HEALTHY), *given)


def test_of_several_runs_the_worst_counts_and_labels_of_a_ruler_do_no_harm(promtool, tmp_path):
    given = (
        head("op", "a", 2, 0.1, Verdict.COLLAPSED, recorded={"ruler": "east"}),
        head("op", "b", 2, 0.1, Verdict.SETTLED, recorded={"ruler": "east"}),
        run("a", worst=Verdict.COLLAPSED),
        run("b", worst=Verdict.SETTLED),
    )
    expect(promtool, tmp_path, verdict_queries.verdicts(), of_heads(op=Verdict.COLLAPSED), *given)
    by_run = {'{run_id="a"}': int(Verdict.COLLAPSED), '{run_id="b"}': int(Verdict.SETTLED)}
    expect(promtool, tmp_path, verdict_queries.verdicts(RUN_KEY), by_run, *given)
    expect(promtool, tmp_path, verdict_queries.verdicts_of_runs(), by_run, *given)


def test_a_cell_says_the_verdict_in_a_word_and_that_it_is_one_of_the_past(promtool, tmp_path):
    words = {verdict: verdict.word for verdict in Verdict}
    given = (
        (*head("op", "a", 2, 0.1, Verdict.COLLAPSED), *head("slot", "a", 0, 0.9), *run("a")),
        (
            *head("op", "b", 0, 0.7, ended=True),
            *head("slot", "b", 2, 0.1, Verdict.COLLAPSED, ended=True),
            *run("b", ended=True),
        ),
    )
    told = {("a", "op"): "collapsed", ("a", "slot"): "healthy"}
    told |= {("b", "op"): "healthy, over", ("b", "slot"): "collapsed, over"}
    answer = {
        f'{{head="{name}", run_id="{run_id}", verdict="{word}"}}': 1 for (run_id, name), word in told.items()
    }
    labelled = verdict_queries.verdict_words(words, ", over")
    cells = f"count by ({HEAD_KEY}, verdict) ({labelled})"
    expect(promtool, tmp_path, cells, answer, *given)


def test_the_weakest_head_is_one_that_has_not_settled(promtool, tmp_path):
    settled, fine = head("op", "r", 2, 0.05, Verdict.SETTLED), head("slot", "r", 0, 0.75)
    weakest = verdict_queries.ratio_that_counts()
    expect(promtool, tmp_path, weakest, {'{head="slot"}': 0.75}, settled, fine, run("r"))
    expect(promtool, tmp_path, weakest, {'{head="op"}': 0.05}, settled, run("r"))


def test_the_colour_of_a_ratio_is_that_of_its_level_whatever_the_verdict(promtool, tmp_path):
    given = (head("op", "r", 2, 0.05, Verdict.SETTLED), head("slot", "r", 0, 0.75))
    colours = queries.colours(style.LEVEL_COLOURS, style.DIM)
    answer = {'{colour="red", head="op"}': 2, '{colour="green", head="slot"}': 0}
    expect(promtool, tmp_path, colours, answer, *given, run("r"))
    answer = {'{colour="red", head="op"}': 2, f'{{colour="{style.DIM}", head="slot"}}': 0}
    expect(promtool, tmp_path, colours, answer, *given, run("r", "failed"))


def test_state_and_verdict_are_one_number_and_100_more_when_the_run_is_over(promtool, tmp_path):
    given = (
        head("op", "r", 0, 0.95, state="confused"),
        head("slot", "r", 0, 0.7, Verdict.EXPLODING, state="exploding"),
    )
    now = of_heads(op=10 + 2, slot=80 + 5)
    expect(promtool, tmp_path, verdict_queries.verdicts_and_states(100), now, *given, run("r"))
    bars = of_heads(op=10 + 2, slot=80)
    expect(promtool, tmp_path, verdict_queries.verdicts_and_states_now(), bars, *given, run("r"))
    over = {labels: number + 100 for labels, number in now.items()}
    expect(promtool, tmp_path, verdict_queries.verdicts_and_states(100), over, *given, run("r", "failed"))


def alert(name, run_id, severity, *, head="", state="firing", since=300, **labels):
    """A firing alert, as Prometheus writes it."""
    labels = {"alertname": name, "severity": severity, "run_id": run_id, **labels}
    labels |= {"head": head} if head else {}
    return [
        series("ALERTS", held(1), alertstate=state, **labels),
        series("ALERTS_FOR_STATE", held(since), **labels),
    ]


WATCHDOG = [series("ALERTS", held(1), alertname="RLMonitoringWatchdog", alertstate="firing")]


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


def test_a_stalled_run_that_failed_has_failed(promtool, tmp_path):
    phases = queries.run_phase()
    stalled = [one for one in alert("RLTrainingStalled", "a", "warning") if one["series"].startswith("ALERTS{")]
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 1}, stalled, run("a"))
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 4}, stalled, run("a", "failed"))
    expect(promtool, tmp_path, phases, {'{run_id="a"}': 5}, stalled, run("a", ended=True))


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
    expect(promtool, tmp_path, queries.leading_actions(), answer, shares)


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
