"""Every query of every dashboard, against a real Prometheus that scraped real runs and evaluates the rules."""

import json
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import partial

import pytest

from rl_dashboards.fleet_table import ENDED, IN_TROUBLE, UNJUDGED
from rl_dashboards.queries import NO_CHOICE_CODE
from rl_dashboards.verdict_queries import Verdict
from tests.support.dashboard_files import BOARDS, expressions, filled, selectors, targets, variable_queries
from tests.support.servers import query
from tests.support.waiting import until, until_equal

pytestmark = pytest.mark.stack

QUIET = {  # where an answer may be empty, and why
    "Alerts firing": "no alert fires",
    "annotation 0": "no alert fires",
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
}
LATER = {  # what stops with the run, by design: it speaks of now
    "Rollout and update time": "no update in the last moments",
    "Environment steps per second": "no step in the last moments",
    "CPU of the trainer": "no process",
    "Memory of the trainer": "no process",
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


@every_board
@pytest.mark.parametrize("cluster", [".*", "lab", ""], ids=["all", "with cluster", "without cluster"])
def test_every_query_has_an_answer_while_runs_go_on(world, uid, cluster):
    run = {".*": ".*", "lab": "run-1", "": "run.2\\\\+b"}[cluster]
    if uid == "rl-pipeline":
        cluster = cluster or ".*"
    until_equal(lambda: unexpected(empty_answers(world, BOARDS[uid], cluster=cluster, run_id=run), QUIET), [])


def test_a_query_on_what_does_not_exist_is_seen(world):
    board = json.loads(json.dumps(BOARDS["rl-run"]).replace("rl_value_loss", "rl_value_lost"))
    assert "Value loss / A" in unexpected(empty_answers(world, board), QUIET)
    broken = json.loads(json.dumps(BOARDS["rl-run"]).replace("max by (run_id)", "max by run_id"))
    with pytest.raises(AssertionError, match="parse error"):
        list(empty_answers(world, broken))


@every_board
def test_variables_offer_what_is_there(world, uid):
    offered = {}
    for name, expression in variable_queries(BOARDS[uid]).items():
        series, _, label = filled(expression.removeprefix("label_values(").removesuffix(")")).rpartition(", ")
        arguments = urllib.parse.urlencode({"match[]": series, "start": world.started, "end": time.time()})
        with urllib.request.urlopen(
            f"http://{world.server}/api/v1/label/{label}/values?{arguments}"
        ) as response:
            offered[name] = json.load(response)["data"]
    assert offered["cluster"] == ["lab"]
    assert offered["run_id"] == ["run-1", "run.2+b", "young"]
    assert len(offered["head"]) == 10


def values(world, uid, title, **selected):
    """Answers of the queries of one panel, by reference."""
    found = {}
    for name, target in targets(BOARDS[uid]):
        if name == title:
            expression = filled(target["expr"], **selected, span=span(world), rate="10s")
            found[target["refId"]] = ask(world.server, expression)
    return found


def run_state(world, run_id):
    """The number behind the tile "Run", in a list that is empty without an answer."""
    return [float(row["value"][1]) for row in values(world, "rl-heads", "Run", run_id=run_id)["A"]]


def ranks(world):
    """Where each run stands in Fleet; the smallest first."""
    answers = values(world, "rl-fleet", "Runs, worst head first")
    rows = answers[max(ref for ref in answers if ref.startswith("Q"))]
    return {row["metric"]["run"]: float(row["value"][1]) for row in rows}


def test_a_tile_s_number_is_verdict_and_state(world):
    tile = values(world, "rl-heads", "$head", run_id="run-1")
    shown = {row["metric"]["head"]: int(float(row["value"][1])) for row in tile["B"]}
    level = {row["metric"]["head"]: int(row["value"][1]) for row in query(
        world.server, 'head:rl_policy_effective_entropy:level{run_id="run-1"}')}  # fmt: skip
    assert set(shown) == set(level)
    consulted = {head: number for head, number in shown.items() if number != NO_CHOICE_CODE}
    assert consulted
    assert all(number // 10 - 1 in set(Verdict) for number in consulted.values())


def test_what_the_tiles_and_tables_say_is_what_the_exporter_says(world):
    until_equal(lambda: run_state(world, "run-1"), [0])
    table = partial(values, world, "rl-fleet", "Runs, worst head first")
    rows = until(lambda: len((found := table())["Q1"]) == 2 and found)
    assert {row["metric"]["run"] for row in rows["Q0"]} == {"lab//run-1", "//run.2+b", "//young"}
    assert {row["metric"].get("cluster", "-"): row["metric"]["in_cluster"] for row in rows["Q0"]} == {
        "lab": "lab", "-": "$__all"}  # fmt: skip
    assert len(rows["L"]) == 16
    shown = values(world, "rl-heads", "Heads in numbers", run_id="run-1")
    assert {row["metric"]["head"] for row in shown["Q0"]} == {row["metric"]["head"] for row in shown["Q9"]}


@every_board
def test_before_the_first_update_no_query_fails_and_nothing_is_made_up(world, uid):
    empty = {where for where in empty_answers(world, BOARDS[uid], run_id="young") if ": " not in where}
    if uid == "rl-heads":
        shown = {
            "Run",
            "Last update",
            "Updates",
            "Alerts firing",
            "Heads in numbers",
            "Entropy in nats (reference dashed)",
        }
        shown |= {"Every update, by effective ratio", "State of each head"}
        titles = {title for title, _ in targets(BOARDS[uid])}
        assert {where.rpartition(" / ")[0] for where in empty} >= titles - shown
        until_equal(lambda: run_state(world, "young"), [0])
    if uid == "rl-fleet":
        assert ranks(world)["//young"] == UNJUDGED


@every_board
def test_an_ended_run_shows_its_last_values(world, uid):
    one = world.one
    if one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
        until(
            lambda: query(world.server, 'last_over_time(rl_training_run_state{state="interrupted"}[1h]) == 1')
        )
        one.process.wait(timeout=60)
        one.listed.unlink()
        until(lambda: not query(world.server, 'rl_training_run_info{run_id="run-1"}'))
        until(lambda: not query(world.server, 'head:rl_policy_effective_entropy:level{run_id="run-1"}'))
    found = list(empty_answers(world, BOARDS[uid], run_id="run-1"))
    assert unexpected(found, QUIET, LATER) == []
    assert run_state(world, "run-1") == [2]
    (age,) = values(world, "rl-heads", "Last update", run_id="run-1")["A"]
    assert float(age["value"][1]) > 0
    assert ranks(world)["lab//run-1"] >= ENDED > ranks(world)["//run.2+b"]


def test_a_lost_run_stands_behind_those_that_have_a_collapsed_head(world):
    world.young._server.stop()  # killed: it never says that it ended
    until(lambda: ranks(world)["//young"] == IN_TROUBLE)
