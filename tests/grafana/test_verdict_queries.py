"""The PromQL of the verdicts on heads, evaluated by promtool on made-up series."""

from rl_dashboards import queries, style, verdict_queries
from rl_dashboards.queries import HEAD_KEY, RUN_KEY
from rl_dashboards.verdict_queries import Verdict
from tests.grafana.made_up_series import expect, head, of_heads, run


def test_the_verdict_of_now_is_the_recorded_one(promtool, tmp_path):
    given = [head(verdict.name, "r", 0, 0.5, verdict) for verdict in Verdict]
    answer = of_heads(**{verdict.name: verdict for verdict in Verdict})
    for expression in (verdict_queries.verdicts_now(), verdict_queries.verdicts()):
        expect(promtool, tmp_path, expression, answer, *given, run("r"))
    expect(promtool, tmp_path, verdict_queries.verdicts(), answer, *given, run("r", "failed"))


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
