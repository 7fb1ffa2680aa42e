"""Every query of every dashboard, against a real Prometheus that scraped real runs and evaluates the rules."""

import json
import re
import signal
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from rl_dashboards import style
from rl_dashboards.missing import Missing
from rl_dashboards.queries import NO_CHOICE_CODE, RunPhase
from rl_dashboards.ranking import ENDED, IN_TROUBLE, PAGES, UNJUDGED
from rl_dashboards.verdict_queries import ENDED as OVER
from rl_dashboards.verdict_queries import Verdict
from rl_training.action_space import HEAD_NAMES
from tests.support.dashboard_files import BOARDS, expressions, filled, selectors, targets
from tests.support.servers import query
from tests.support.waiting import until, until_equal

pytestmark = pytest.mark.stack

QUIET = {  # where an answer may be empty, and why
    "Updates / B": "the run was not resumed",
    "Pages / B": "no alert fires",
    "annotation 0": "no alert fires",
    "annotation 1": "no alert fires",
    "annotation 3": "no entropy controller is on",
    "Heads: decisions and bookkeeping / Q7": "no head is in a condition of three updates",
    "Effective ratio and its target": "no entropy controller is on",
    "Entropy coefficient as applied": "no entropy controller is on",
    "Interventions": "no entropy controller is on",
    "Updates at the bound": "no entropy controller is on",
    "Exporter: record errors / B": "no errors; A says so for all trainers together",
    "Exporter: record errors / C": "no value was impossible",
    "Environment: $environment_metric / A": "the environment heads reports nothing; see the test of one that does",
    "Notifications delivered / A": "no increase between the last two notifications",
    "Notifications delivered / B": "nothing failed",
    "Alerts in Alertmanager": "counts what Alertmanager holds; there before the first alert only in later versions",
}
NO_SERIES = {  # selectors of which no series may exist, and why
    "ALERTS": "no alert fires",
    "ALERTS_FOR_STATE": "no alert fires",
    "rl_policy_head_condition_since_timestamp_seconds": "no head was low for three updates",
    "rl_exporter_dropped_values_total": "no value was impossible",
    "rl_policy_head_entropy_target_ratio": "no entropy controller is on",
    "rl_policy_head_entropy_coefficient_applied": "no entropy controller is on",
    "rl_policy_head_interventions_total": "no entropy controller is on",
    "rl_policy_head_controller_saturated_updates": "no entropy controller is on",
}
ONE_RUN = {"rl-heads", "rl-run"}
RUNS = {"run-1": "lab", "run.2+b": "", "young": ""}
"""The runs, and the cluster of each."""
LATER = {  # what stops with the run, by design: it speaks of now
    "Rollout and update time": "no update in the last moments",
    "Environment steps per second": "no step in the last moments",
    "CPU of the trainer": "no process",
    "Memory of the trainer": "no process",
    "Targets down": "no target of that cluster, some scrapes after it left discovery",
}


def ask(prometheus, expression, *, start=None, end=None):
    """Result of a query; over a time range where ``start`` is given."""
    arguments = {"query": expression}
    if start is not None:
        arguments |= {"start": start, "end": end, "step": 1}
    else:
        arguments |= {"time": end or time.time()}
    path = "query" if start is None else "query_range"
    url = f"http://{prometheus}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from error


def span(world):
    return f"{int(time.time() - world.started) + 5}s"


def empty_answers(world, board, **selected):
    """Queries of a dashboard without an answer, or whose selectors find nothing."""
    now = time.time()
    selected |= {"span": span(world), "rate": "10s"}
    for title, target in targets(board):
        where = f"{title} / {target['refId']}"
        start = world.started if target.get("range") else None
        if not ask(world.server, filled(target["expr"], **selected), start=start, end=now):
            yield where
    for where, expression in expressions(board):
        for selector in selectors(filled(expression, **selected)):
            if not ask(world.server, f"last_over_time({selector}[{span(world)}])", end=now):
                yield f"{where}: {selector.partition('{')[0]}"


def unexpected(found, *allowed):
    reasons = {where for table in allowed for where in table} | set(NO_SERIES)
    return sorted(
        where
        for where in set(found)
        if where not in reasons
        and where.rpartition(" / ")[0] not in reasons
        and where.rpartition(": ")[2] not in NO_SERIES
    )


every_board = pytest.mark.parametrize("uid", sorted(BOARDS))


def selection(uid, run):
    """The variables as Grafana sets them where ``run`` is chosen: names where one run is shown, patterns elsewhere."""
    if uid in ONE_RUN:
        return {"cluster": RUNS[run], "namespace": "", "run_id": run}
    pattern = run.replace(".", r"\.").replace("+", r"\+")
    return {"cluster": RUNS[run] if uid != "rl-pipeline" else RUNS[run] or ".*", "run_id": pattern}


@every_board
@pytest.mark.parametrize("run", ["run-1", "run.2+b", ""], ids=["with cluster", "without cluster", "all"])
def test_every_query_has_an_answer_while_runs_go_on(world, uid, run):
    if not run and uid in ONE_RUN:
        pytest.skip("it shows one run")
    selected = selection(uid, run) if run else {}
    if uid == "rl-compare":
        selected["head"] = "op"
    until_equal(lambda: unexpected(empty_answers(world, BOARDS[uid], **selected), QUIET), [])


def test_a_query_on_what_does_not_exist_is_seen(world):
    selected = selection("rl-run", "run-1")
    board = json.loads(json.dumps(BOARDS["rl-run"]).replace("rl_value_loss", "rl_value_lost"))
    assert "Value loss / A" in unexpected(empty_answers(world, board, **selected), QUIET)
    broken = json.loads(json.dumps(BOARDS["rl-run"]).replace("max by (run_id)", "max by run_id"))
    with pytest.raises(AssertionError, match="parse error"):
        list(empty_answers(world, broken, **selected))


def offered(world, uid, **selected):
    """What the lists of variables offer, by name, in the order in which Grafana shows them."""
    shown = {}
    for variable in BOARDS[uid]["templating"]["list"]:
        if variable["type"] != "query":
            continue
        expression = filled(variable["query"]["query"], span=span(world), **selected)
        if expression.startswith("query_result("):
            rows = ask(world.server, expression.removeprefix("query_result(").removesuffix(")"))
            pattern = re.compile(variable["regex"].strip("/"))
            lines = [
                ",".join(f'{name}="{value}"' for name, value in sorted(row["metric"].items())) for row in rows
            ]
            shown[variable["name"]] = [pattern.search(line)[1] for line in lines]
            continue
        series, _, label = expression.removeprefix("label_values(").removesuffix(")").rpartition(", ")
        arguments = urllib.parse.urlencode({"match[]": series, "start": world.started, "end": time.time()})
        url = f"http://{world.server}/api/v1/label/{label}/values?{arguments}"
        with urllib.request.urlopen(url) as response:
            shown[variable["name"]] = json.load(response)["data"]
    return shown


def test_variables_offer_what_is_there(world):
    every = offered(world, "rl-fleet")
    assert every["cluster"] == ["lab"]
    assert every["run_id"] == ["run-1", "run.2+b", "young"]
    assert len(every["head"]) == 10
    of_one = offered(world, "rl-heads", **selection("rl-heads", "run-1"))
    assert of_one["cluster"] == ["lab"]
    assert of_one["head"] == list(HEAD_NAMES), "op first, as declared"
    without = offered(world, "rl-run", **selection("rl-run", "run.2+b"))
    assert without["cluster"] == without["namespace"] == []
    assert sorted(without["run_id"]) == ["run-1", "run.2+b", "young"]
    assert without["run_id"][-1] == "young", "which has no verdict yet"


def values(world, uid, title, **selected):
    """Answers of the queries of one panel, by reference."""
    found = {}
    for name, target in targets(BOARDS[uid]):
        if name == title:
            expression = filled(target["expr"], **selected, span=span(world), rate="10s")
            found[target["refId"]] = ask(world.server, expression)
    return found


def number(world, uid, title):
    """What a tile with one number shows of everything."""
    ((row,),) = values(world, uid, title).values()
    return float(row["value"][1])


def run_state(world, run_id):
    """The number behind the tile "Run", in a list that is empty without an answer."""
    answer = values(world, "rl-heads", "Run", **selection("rl-heads", run_id))["A"]
    return [float(row["value"][1]) for row in answer]


def column(world, name):
    """A column of Fleet's table, by run; its hidden columns among them."""
    (table,) = [panel for panel in BOARDS["rl-fleet"]["panels"] if panel["title"].startswith("Runs, what")]
    (ref,) = [
        override["matcher"]["options"].removeprefix("Value #")
        for override in table["fieldConfig"]["overrides"]
        if {"id": "displayName", "value": name} in override["properties"]
    ]
    return values(world, "rl-fleet", table["title"])[ref]


def ranks(world):
    """Where each run stands in Fleet; the smallest first."""
    return {row["metric"]["run"]: float(row["value"][1]) for row in column(world, "rank")}


def test_a_tile_s_number_is_verdict_and_state(world):
    tile = values(world, "rl-heads", "$head", **selection("rl-heads", "run-1"))
    shown = {row["metric"]["head"]: int(float(row["value"][1])) for row in tile["B"]}
    assert set(shown) == set(HEAD_NAMES)
    assert all(0 <= number // 10 - 1 <= max(Verdict) for number in shown.values())
    assert all(
        number // 10 - 1 == Verdict.NO_CHOICE for number in shown.values() if number % 10 == NO_CHOICE_CODE
    )


def test_what_the_tiles_and_tables_say_is_what_the_exporter_says(world):
    until_equal(lambda: run_state(world, "run-1"), [0])
    until(lambda: len(column(world, "pages")) == 3)
    named = {row["metric"]["run"]: row["metric"] for row in column(world, "named")}
    assert {run: row["name"] for run, row in named.items()} == {
        "lab//run-1": "run-1 · lab", "//run.2+b": "run.2+b", "//young": "young"}  # fmt: skip
    assert [named[run]["in_cluster"] for run in ("lab//run-1", "//young")] == ["lab", "$__all"]
    cells = values(world, "rl-fleet", "Runs, what pages first")["L"]
    assert len(cells) == 16
    assert {row["metric"]["verdict"] for row in cells} <= {look[0] for look in style.VERDICTS.values()}
    shown = values(world, "rl-heads", "Heads: verdict and evidence", **selection("rl-heads", "run-1"))
    assert {row["metric"]["head"] for row in shown["Q0"]} == {row["metric"]["head"] for row in shown["Q4"]}


def test_before_the_first_update_every_tile_says_so(world):
    selected = selection("rl-heads", "young")
    tiles = values(world, "rl-heads", "$head", **selected)["A"]
    assert {row["metric"]["head"]: float(row["value"][1]) for row in tiles} == {
        "arm": Missing.UPDATE, "leg": Missing.UPDATE}  # fmt: skip
    for title in ("Pages", "Weakest head", "Total entropy"):
        assert float(values(world, "rl-heads", title, **selected)["A"][0]["value"][1]) == Missing.UPDATE, title
    until_equal(lambda: run_state(world, "young"), [0])
    assert ranks(world)["//young"] == UNJUDGED
    assert not [
        row
        for row in values(world, "rl-fleet", "Runs, what pages first")["L"]
        if row["metric"]["run"] == "//young"
    ]


@every_board
def test_an_ended_run_shows_its_last_values(world, uid):
    one = world.one
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
        until(
            lambda: query(world.server, 'last_over_time(rl_training_run_state{state="interrupted"}[1h]) == 1')
        )
        one.process.wait(timeout=60)
        until(lambda: query(world.server, 'up{cluster="lab"} == 0'))
        until_equal(lambda: number(world, "rl-pipeline", "Targets down"), 0)  # its run has said that it ended
        one.listed.unlink()
        until(lambda: not query(world.server, 'rl_training_run_info{run_id="run-1"}'))
        until(lambda: not query(world.server, 'head:rl_policy_effective_entropy:level{run_id="run-1"}'))
    selected = selection(uid, "run-1") | ({"head": "op"} if uid == "rl-compare" else {})
    found = list(empty_answers(world, BOARDS[uid], **selected))
    assert unexpected(found, QUIET, LATER) == []
    assert run_state(world, "run-1") == [RunPhase.INTERRUPTED]
    (age,) = values(world, "rl-heads", "Last update", **selection("rl-heads", "run-1"))["A"]
    assert float(age["value"][1]) > 0
    assert ranks(world)["lab//run-1"] >= ENDED > ranks(world)["//run.2+b"]
    tile = values(world, "rl-heads", "$head", **selection("rl-heads", "run-1"))["B"]
    assert len(tile) == 8
    assert all(float(row["value"][1]) >= OVER for row in tile), "nothing green: it says nothing about now"


def test_a_lost_run_stands_in_trouble_and_on_top_once_it_pages(world):
    world.young._server.stop()  # killed: it never says that it ended
    until(lambda: number(world, "rl-pipeline", "Targets down") == 1)
    until(lambda: ranks(world)["//young"] in {IN_TROUBLE, PAGES + IN_TROUBLE})
