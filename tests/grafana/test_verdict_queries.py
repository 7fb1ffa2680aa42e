"""The PromQL of the verdicts, evaluated by promtool on made-up series."""

import json
import subprocess

from rl_dashboards import queries, style, verdict_queries
from rl_dashboards.fleet_table import ENDED, IN_TROUBLE, PLACES, UNJUDGED
from rl_dashboards.queries import RUN_KEY
from rl_dashboards.verdict_queries import Verdict
from tests.support.dashboard_files import BOARDS, filled, targets

RATIO, LEVEL = "head:rl_policy_effective_entropy:ratio", "head:rl_policy_effective_entropy:level"
MINUTES = 10
ENDS = 5
"""Minutes after which the series of an ended run are gone."""


def series(metric, values, **labels):
    inside = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{metric}{{{inside}}}", "values": values}


def held(value, ended=False):
    """A series with one value, to the end or until the run ends."""
    return f"{value}x{ENDS - 1} stale" if ended else f"{value}x{MINUTES}"


def head(name, run, level, ratio, *conditions, ended=False, share=1, recorded=None):
    """One head as scrapes and rules would leave it; a condition is a word and its values."""
    labels = {"run_id": run, "head": name}
    ruled = labels | (recorded or {})
    since = "rl_policy_head_condition_since_timestamp_seconds"
    return [
        series(LEVEL, held(level, ended), **ruled),
        series(RATIO, held(ratio, ended), **ruled),
        series("rl_policy_head_choice_steps_ratio", held(share, ended), **labels),
        *(series(since, values, condition=word, instance="a:1", **labels) for word, values in conditions),
    ]


def lasting(condition, since=60, ended=False):
    return condition, held(since, ended)


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


BLIND = (lasting("collapsed"), lasting("low"), lasting("critical"), lasting("warning"))


def test_the_verdict_is_the_exporter_s_and_settled_is_none_of_the_failures(promtool, tmp_path):
    given = (
        head("gone", "r", 2, 0.1, *BLIND),
        head("low", "r", 1, 0.4, lasting("low"), lasting("warning")),
        head("settled", "r", 2, 0.1, lasting("settled"), lasting("critical"), lasting("warning")),
        head("settling", "r", 1, 0.4, lasting("warning")),
        head("fine", "r", 0, 0.9),
        head("young", "r", 2, 0.1),
    )
    answer = of_heads(
        gone=Verdict.COLLAPSED,
        low=Verdict.LOW,
        settled=Verdict.SETTLED,
        settling=Verdict.HEALTHY,
        fine=Verdict.HEALTHY,
        young=Verdict.HEALTHY,
    )
    for expression in (verdict_queries.verdicts_now(), verdict_queries.head_verdicts()):
        expect(promtool, tmp_path, expression, answer, *given)


def test_a_collapse_that_ended_while_the_run_goes_on_is_over(promtool, tmp_path):
    given = head("op", "r", 0, 0.9, ("collapsed", "60x4 stale"), ("low", "60x4 stale"))
    expect(promtool, tmp_path, verdict_queries.head_verdicts(), of_heads(op=Verdict.HEALTHY), given)


def test_an_ended_run_keeps_its_last_verdict(promtool, tmp_path):
    def ended(name, level, *conditions):
        return head(name, "r", level, 0.1, *conditions, ended=True)

    given = (
        ended("gone", 2, lasting("collapsed", ended=True), lasting("low", ended=True)),
        ended(
            "settled", 2, ("collapsed", "60x1 stale"), ("low", "60x1 stale"), ("settled", "_x2 180 180 stale")
        ),
        ended("blinded", 2, ("settled", "60x1 stale"), ("collapsed", "_x2 180 180 stale")),
        ended("low", 1, lasting("low", ended=True)),
        ended("recovered", 0, ("collapsed", "60x1 stale"), ("low", "60x1 stale")),
    )
    answer = of_heads(
        gone=Verdict.COLLAPSED,
        settled=Verdict.SETTLED,
        blinded=Verdict.COLLAPSED,
        low=Verdict.LOW,
        recovered=Verdict.HEALTHY,
    )
    expect(promtool, tmp_path, verdict_queries.head_verdicts(), answer, *given)


def test_of_several_runs_the_worst_counts_and_labels_of_a_ruler_do_no_harm(promtool, tmp_path):
    given = (
        head("op", "a", 2, 0.1, *BLIND, recorded={"ruler": "east"}),
        head("op", "b", 2, 0.1, lasting("settled", since=500), recorded={"ruler": "east"}),
    )
    expect(promtool, tmp_path, verdict_queries.head_verdicts(), of_heads(op=Verdict.COLLAPSED), *given)
    by_run = {'{run_id="a"}': int(Verdict.COLLAPSED), '{run_id="b"}': int(Verdict.SETTLED)}
    expect(promtool, tmp_path, verdict_queries.head_verdicts(RUN_KEY), by_run, *given)


def test_a_head_without_choice_has_no_verdict_in_the_table(promtool, tmp_path):
    given = (head("op", "r", 2, 0.1, *BLIND, share=0), head("slot", "r", 0, 0.9))
    answer = of_heads(op=verdict_queries.NO_VERDICT_CODE, slot=Verdict.HEALTHY)
    expect(promtool, tmp_path, verdict_queries.verdict_or_no_choice("head"), answer, *given)


def test_the_weakest_head_is_one_that_has_not_settled(promtool, tmp_path):
    settled, fine = head("op", "r", 2, 0.05, lasting("settled")), head("slot", "r", 0, 0.75)
    expect(promtool, tmp_path, verdict_queries.ratio_that_counts(), {'{head="slot"}': 0.75}, settled, fine)
    settled = head("op", "r", 2, 0.05, lasting("settled"))
    expect(promtool, tmp_path, verdict_queries.ratio_that_counts(), {'{head="op"}': 0.05}, settled)


def test_the_colour_of_a_ratio_is_that_of_its_level_whatever_the_verdict(promtool, tmp_path):
    given = (head("op", "r", 2, 0.05, lasting("settled")), head("slot", "r", 0, 0.75))
    answer = {'{colour="red", head="op"}': 2, '{colour="green", head="slot"}': 0}
    expect(promtool, tmp_path, queries.colours(style.LEVEL_COLOURS), answer, *given)


def state(run, word, ended=False):
    return [series("rl_training_run_state", held(1, ended), run_id=run, state=word)]


def fleet(ref):
    """The query of a column of Fleet's table."""
    (expression,) = [
        t["expr"]
        for title, t in targets(BOARDS["rl-fleet"])
        if title == "Runs, worst head first" and t["refId"] == ref
    ]
    return expression


def column(name):
    """The reference of a column of Fleet's table, by its name."""
    (table,) = [panel for panel in BOARDS["rl-fleet"]["panels"] if panel["title"] == "Runs, worst head first"]
    for override in table["fieldConfig"]["overrides"]:
        if {"id": "displayName", "value": name} in override["properties"]:
            return override["matcher"]["options"].removeprefix("Value #")
    raise LookupError(name)


def test_fleet_is_sorted_by_the_verdict(promtool, tmp_path):
    given = (
        (
            *head("op", "gone", 2, 0.2, *BLIND),
            *head("slot", "gone", 2, 0.1, lasting("settled")),
            *state("gone", "running"),
        ),
        (*head("op", "low", 1, 0.4, lasting("low")), *state("low", "running")),
        (*head("op", "fine", 0, 0.75), *state("fine", "running")),
        (*head("op", "solved", 2, 0.05, lasting("settled")), *state("solved", "running")),
        state("fresh", "running"),
        state("failed", "failed"),
        (*head("op", "over", 0, 0.75, ended=True), *state("over", "completed", ended=True)),
    )
    answer = {
        "gone": PLACES[Verdict.COLLAPSED] + 0.2,
        "failed": IN_TROUBLE,
        "low": PLACES[Verdict.LOW] + 0.4,
        "fine": PLACES[Verdict.HEALTHY] + 0.75,
        "solved": PLACES[Verdict.SETTLED] + 0.05,
        "fresh": UNJUDGED,
        "over": ENDED + PLACES[Verdict.HEALTHY] + 0.75,
    }
    assert list(answer.values()) == sorted(answer.values())
    expect(
        promtool,
        tmp_path,
        fleet(column("rank")),
        {f'{{run="//{run}"}}': place for run, place in answer.items()},
        *given,
    )
    worst = {
        "gone": ("op", 0.2),
        "low": ("op", 0.4),
        "fine": ("op", 0.75),
        "solved": ("op", 0.05),
        "over": ("op", 0.75),
    }
    expect(
        promtool,
        tmp_path,
        fleet(column("worst ratio")),
        {f'{{head="{name}", run="//{run}"}}': ratio for run, (name, ratio) in worst.items()},
        *given,
    )


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
