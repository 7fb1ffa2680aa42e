"""The dashboards as files: generated, whole, and alike in what each of them needs."""

import copy
import itertools
import json
import re

from rl_dashboards.__main__ import stale
from tests.support.dashboard_files import (
    BOARDS,
    ONE_RUN,
    ROOT,
    UIDS,
    every_board,
    expressions,
    panels,
    targets,
    variable_queries,
)


def test_the_committed_files_are_what_the_source_gives(tmp_path):
    assert stale() == [], "run make dashboards"
    for part in ("dashboards", "import"):
        (tmp_path / part).mkdir()
        for path in (ROOT / "grafana" / part).glob("*.json"):
            (tmp_path / part / path.name).write_text(path.read_text())
    changed = tmp_path / "dashboards/rl-run.json"
    changed.write_text(changed.read_text().replace("RL Run", "RL Rum"))
    (tmp_path / "dashboards/rl-more.json").write_text("{}")
    (tmp_path / "import/rl-heads.json").unlink()
    assert stale(tmp_path) == ["dashboards/rl-more.json", "dashboards/rl-run.json", "import/rl-heads.json"]


@every_board
def test_what_people_import_asks_for_the_data_source_and_is_the_same_otherwise(uid):
    board = json.loads((ROOT / f"grafana/import/{uid}.json").read_text())
    (wanted,) = board["__inputs"]
    assert (wanted["type"], wanted["pluginId"]) == ("datasource", "prometheus")
    assert set(sources(board)) == {f"${{{wanted['name']}}}"}
    assert "${datasource" not in json.dumps(board)
    assert board["id"] is None
    required = {one["id"] for one in board["__requires"]}
    assert {panel["type"] for panel in panels(board)} | {"grafana", "prometheus"} == required
    assert [panel["title"] for panel in panels(board)] == [panel["title"] for panel in panels(BOARDS[uid])]
    assert [expression for _, expression in expressions(board)] == [
        expression for _, expression in expressions(BOARDS[uid])
    ]


def test_uids_are_pinned():
    assert {board["uid"] for board in BOARDS.values()} == set(BOARDS) == UIDS


def overlaps(board):
    boxes = [(panel["id"], panel["gridPos"]) for panel in board["panels"]]
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        if not apart and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]:
            yield first, second
    for number, box in boxes:
        if box["x"] + box["w"] > 24:
            yield number, number


@every_board
def test_panels_have_unique_ids_and_do_not_overlap(uid):
    board = BOARDS[uid]
    ids = [panel["id"] for panel in panels(board)]
    assert len(ids) == len(set(ids)) >= 5
    assert list(overlaps(board)) == []
    moved = copy.deepcopy(board)
    moved["panels"][2]["gridPos"] = moved["panels"][1]["gridPos"]
    assert list(overlaps(moved)) != []


def sources(node):
    if isinstance(node, dict):
        if isinstance(node.get("datasource"), dict):
            yield node["datasource"].get("uid")
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from sources(part)


@every_board
def test_no_data_source_is_hard_coded(uid):
    assert set(sources(BOARDS[uid])) == {"${datasource}"}
    for panel in panels(BOARDS[uid]):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    for title, target in targets(BOARDS[uid]):
        assert target["datasource"]["uid"] == "${datasource}", title


@every_board
def test_every_panel_explains_itself_and_says_what_is_missing(uid):
    for panel in panels(BOARDS[uid]):
        assert len(panel["description"].split()) >= 6, panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0


@every_board
def test_variables_follow_the_time_range_and_one_run_is_chosen_where_one_is_shown(uid):
    listed = {variable["name"]: variable for variable in BOARDS[uid]["templating"]["list"]}
    own = {"rl-run": ["environment_metric"]}.get(uid, [])
    runs = ["run_id", "cluster", "namespace"] if uid in ONE_RUN else ["cluster", "namespace", "run_id"]
    chosen = ["cluster", "namespace"] if uid == "rl-pipeline" else [*runs, "head"]  # Pipeline shows targets
    assert list(listed) == ["datasource", *chosen, *own]
    several = {"head", *own} if uid in ONE_RUN else {*runs, "head"}
    if uid == "rl-compare":
        several.remove("head")
    for name in (*chosen, *own):
        assert listed[name].get("includeAll", False) is listed[name].get("multi", False) is (name in several)
        assert listed[name].get("allValue", ".*" if name not in several else "") == ".*"
        assert listed[name]["refresh"] == 2
    for expression in variable_queries(BOARDS[uid]).values():
        assert re.match(r"(label_values|query_result)\(", expression)


def test_links_between_dashboards_of_all_runs_carry_what_both_can_choose():
    """A variable that is not there would stay in the address as it is written."""
    names = {uid: {one["name"] for one in board["templating"]["list"]} for uid, board in BOARDS.items()}
    carried = {}
    for uid, board in BOARDS.items():
        for link in board["links"]:
            other = re.match(r"/d/([a-z-]+)\?", link["url"])[1]
            carried[uid, other] = re.findall(r"\$\{(\w+):queryparam\}", link["url"])
            assert set(carried[uid, other]) <= names[uid] & names[other], (uid, other)
    assert carried["rl-fleet", "rl-compare"] == ["datasource", "cluster", "namespace", "run_id"]
    assert carried["rl-fleet", "rl-pipeline"] == ["datasource", "cluster", "namespace"]
    assert carried["rl-heads", "rl-fleet"] == ["datasource"], "Fleet shows all runs"


def test_the_run_that_is_shown_by_default_is_the_one_that_fleet_has_on_top():
    for uid in ONE_RUN:
        (variable,) = [one for one in BOARDS[uid]["templating"]["list"] if one["name"] == "run_id"]
        assert variable["sort"] == 0, "the order of the answer"
        expression = variable["query"]["query"]
        assert expression.startswith("query_result(sort(")
        assert expression.endswith("))")
        assert "$" not in expression.replace("$__range", ""), "no other variable: it is the first"
        for name in ("run.2+b", """the "old" one's \\ run"""):
            found = re.compile(variable["regex"].strip("/")).search(
                f'{{cluster="lab",run_id="{name}",seed="1"}} -99 1700000000000'
            )
            assert found[1] == name


@every_board
def test_no_variable_selects_by_itself(uid):
    """A link that chooses a head would leave no other to choose."""
    for name, query in variable_queries(BOARDS[uid]).items():
        assert not re.search(rf"\$\{{?{name}\b", query), query


def test_a_run_is_selected_as_grafana_escapes_it():
    """``"$run_id"`` finds no run with a quote in its name, and a double quote ends the string."""
    for uid in ONE_RUN:
        text = json.dumps(BOARDS[uid])
        assert "run_id=${run_id:doublequote}" in text
        assert not re.search(r'run_id=~?\\"\$', text)


@every_board
def test_links_keep_the_time_range_and_the_run_where_one_is_shown(uid):
    links = {re.search(r"/d/([\w-]+)", link["url"])[1]: link for link in BOARDS[uid]["links"]}
    assert links.keys() == UIDS - {uid}
    for other, link in links.items():
        assert link["keepTime"]
        assert link["includeVars"] is (uid in ONE_RUN and other in ONE_RUN), (
            "Fleet must not hide runs that page"
        )
    for url in re.findall(r'"url": "(/d/[^"]+)"', json.dumps(BOARDS[uid]["panels"])):
        assert url.split("?")[0].removeprefix("/d/") in UIDS
        assert "${__url_time_range}" in url
        assert {"var-cluster=", "var-namespace=", "var-run_id=", "var-head="} <= set(
            re.findall(r"var-\w+=", url)
        )


def test_events_are_lines_at_the_time_at_which_they_happened():
    for board in BOARDS.values():
        marked = {one["name"]: one for one in board["annotations"]["list"]}
        shown = board["uid"] in ONE_RUN, "a fleet's would hide everything"
        assert list(marked) == (["Pages", "Warnings", "Run", "Interventions"] if shown[0] else []), shown
        for annotation in marked.values():
            assert annotation["useValueForTime"] is annotation["enable"] is True
            assert annotation["expr"].startswith("1000 * "), "in milliseconds"


def test_the_page_lists_every_dashboard():
    page = (ROOT / "docs/dashboards.md").read_text()
    rows = re.findall(r"^\| (RL \w+) \| `([\w-]+)` \|", page, flags=re.MULTILINE)
    assert {uid: title for title, uid in rows} == {uid: board["title"] for uid, board in BOARDS.items()}
