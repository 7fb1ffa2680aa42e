"""The dashboards as files: generated, whole, and held to the exporter's constants and metrics."""

import copy
import itertools
import json
import re

import pytest

from rl_dashboards import queries, style, verdict_queries
from rl_dashboards.__main__ import stale
from rl_dashboards.fleet_table import ENDED, IN_TROUBLE, PLACES, UNJUDGED
from rl_exporter.health import DEFAULT_THRESHOLDS, EXPLODING_ABOVE, VANISHING_BELOW, HeadState, Level
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from rl_exporter.snapshot import RunState
from rl_training.action_space import HEAD_NAMES
from tests.support.dashboard_files import (
    BOARDS,
    FOLDER,
    ROOT,
    expressions,
    metrics,
    panels,
    targets,
    variable_queries,
)

UIDS = {"rl-heads", "rl-run", "rl-fleet", "rl-pipeline"}
every_board = pytest.mark.parametrize("uid", sorted(UIDS))


def test_the_committed_files_are_what_the_source_gives(tmp_path):
    assert stale() == [], "run make dashboards"
    for path in FOLDER.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    changed = tmp_path / "rl-run.json"
    changed.write_text(changed.read_text().replace("RL Run", "RL Rum"))
    (tmp_path / "rl-more.json").write_text("{}")
    (tmp_path / "rl-heads.json").unlink()
    assert stale(tmp_path) == ["rl-heads.json", "rl-more.json", "rl-run.json"]


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
    assert len(ids) == len(set(ids)) > 5
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
def test_variables_have_all_and_follow_the_time_range(uid):
    listed = {variable["name"]: variable for variable in BOARDS[uid]["templating"]["list"]}
    own = ["environment_metric"] if uid == "rl-run" else []
    assert list(listed) == ["datasource", "cluster", "run_id", "head", *own]
    for name in ("cluster", "run_id", "head", *own):
        assert listed[name]["includeAll"]
        assert listed[name]["allValue"] == ".*"
        assert listed[name]["refresh"] == 2
    for expression in variable_queries(BOARDS[uid]).values():
        assert expression.startswith(("label_values(rl_", 'label_values({__name__=~"rl_environment_.+"'))


@every_board
def test_links_keep_time_range_and_variables(uid):
    (link,) = BOARDS[uid]["links"]
    assert (link["type"], link["keepTime"], link["includeVars"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(BOARDS[uid]["tags"])
    for url in re.findall(r'"url": "(/d/[^"]+)"', json.dumps(BOARDS[uid])):
        assert url.split("?")[0].removeprefix("/d/") in UIDS
        assert "${__url_time_range}" in url
        assert {"var-cluster=", "var-run_id=", "var-head="} <= set(re.findall(r"var-\w+=", url))


THRESHOLDS = {EXPLODING_ABOVE, VANISHING_BELOW}


def steps(node):
    if isinstance(node, dict):
        for step in node.get("steps", []) if isinstance(node.get("steps"), list) else []:
            yield step["value"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from steps(part)


def foreign_thresholds(board):
    return set(steps(board["panels"])) - THRESHOLDS - {None, 1}


def test_every_threshold_on_a_head_is_the_exporters():
    for uid in ("rl-heads", "rl-run", "rl-fleet"):
        assert foreign_thresholds(BOARDS[uid]) == set()
    assert set(steps(BOARDS["rl-heads"]["panels"])) >= THRESHOLDS
    wrong = json.loads(json.dumps(BOARDS["rl-heads"]).replace(str(EXPLODING_ABOVE), "6.5"))
    assert foreign_thresholds(wrong) == {6.5}


def copies_of_thresholds(text):
    """Numbers that equal a default threshold of the effective ratio, as numbers or within words."""
    found = {float(number) for number in re.findall(r"(?<![\w.])0\.\d+(?![\w.]*\d)", text)}
    return found & set(DEFAULT_THRESHOLDS)


def test_no_dashboard_holds_a_threshold_of_an_entropy_ratio():
    for uid in ("rl-heads", "rl-run", "rl-fleet"):
        assert copies_of_thresholds(json.dumps(BOARDS[uid])) == set(), uid
    assert copies_of_thresholds("min(x) <= 0.25, or 0.5.") == set(DEFAULT_THRESHOLDS)


def declared_thresholds(board):
    """Panels that draw the thresholds of the heads, and the colour of each level there."""
    for panel in panels(board):
        drawn = {
            found[1]: target["refId"]
            for target in panel["targets"]
            if (found := re.search(r'entropy_threshold_ratio\{.*level="(\w+)"', target["expr"]))
        }
        if drawn and panel["type"] == "timeseries":
            colours = {
                override["matcher"]["options"]: override["properties"]
                for override in panel["fieldConfig"]["overrides"]
            }
            yield (
                panel["title"],
                {
                    level: next(p["value"]["fixedColor"] for p in colours[ref] if p["id"] == "color")
                    for level, ref in drawn.items()
                },
            )


def test_thresholds_are_drawn_from_the_series_of_the_heads():
    drawn = dict(declared_thresholds(BOARDS["rl-heads"]))
    assert len(drawn) == 3
    for colours in drawn.values():
        assert colours == {level: style.LEVEL_COLOURS[Level(level)] for level in ("warning", "critical")}


def test_the_colour_of_a_ratio_is_that_of_the_recorded_level():
    for title in ("$head", "Weakest"):
        (panel,) = [panel for panel in panels(BOARDS["rl-heads"]) if panel["title"] == title]
        (chosen,) = [t["options"] for t in panel["transformations"] if t["id"] == "configFromData"]
        assert chosen["mappings"] == [{"fieldName": "colour", "handlerKey": "color"}]
        (query,) = [t["expr"] for t in panel["targets"] if t["refId"] == chosen["configRefId"]]
        for code, level in enumerate(Level):
            assert re.search(rf'== {code}, "colour", "{style.LEVELS[level][1]}"', query), title


def test_every_level_state_and_status_has_a_word_beside_its_colour():
    assert list(style.LEVELS) == list(Level) == list(queries.LEVEL_CODES)
    assert set(style.VERDICTS) == set(verdict_queries.Verdict)
    assert set(style.STATES) == set(queries.HEAD_STATE_CODES) == set(HeadState)
    assert set(style.PHASES) == set(queries.RunPhase)
    assert {state.value for state in RunState} <= {phase.name.lower() for phase in queries.RunPhase}
    for word, _ in (
        *style.LEVELS.values(),
        *style.VERDICTS.values(),
        *style.STATES.values(),
        *style.PHASES.values(),
        style.NO_CHOICE,
    ):
        assert len(word.split()) >= 2


def test_a_tile_shows_the_verdict_and_else_the_state():
    words = style.tile_mapping().options
    for verdict in verdict_queries.Verdict:
        for state, code in queries.HEAD_STATE_CODES.items():
            shown = words[str(10 * (verdict + 1) + code)]
            text, colour = style.VERDICTS[verdict]
            if style.STATES[state][1] == style.RED:
                assert (shown.text, shown.color) == (f"▲ {state}", style.RED)
            elif verdict is not verdict_queries.Verdict.HEALTHY:
                assert (shown.text, shown.color) == (text, colour)
            elif state is not HeadState.DETERMINISTIC:
                assert (shown.text, shown.color) == (f"● {state}", style.GREEN)
            assert len(shown.text) <= len("▲ deterministic"), "which fills a tile"
    for state, code in queries.HEAD_STATE_CODES.items():
        assert words[str(code)].text == style.STATES[state][0], "without a verdict: no rules loaded"
    assert words[str(queries.NO_CHOICE_CODE)].text == style.NO_CHOICE[0]


def test_settled_is_a_word_and_no_failure():
    assert style.VERDICTS[verdict_queries.Verdict.SETTLED] == ("■ settled", style.BLUE)
    collapsed, low, healthy, settled = (
        PLACES[verdict_queries.Verdict[name]] for name in ("COLLAPSED", "LOW", "HEALTHY", "SETTLED")
    )
    assert collapsed < collapsed + 1 < IN_TROUBLE < low < low + 1 < healthy < healthy + 1 < settled
    assert settled + 1 <= UNJUDGED < ENDED


def test_each_alert_is_one_line_at_the_time_it_became_active():
    for board in BOARDS.values():
        (annotation,) = board["annotations"]["list"]
        assert annotation["useValueForTime"] is True
        assert annotation["expr"].startswith("1000 * (ALERTS_FOR_STATE{"), "in milliseconds"
        assert annotation["enable"] is (board["uid"] in {"rl-heads", "rl-run"}), (
            "a fleet's would hide everything"
        )


def test_words_for_verdicts_are_said_of_heads_only():
    """Grafana adds an override's mappings to the panel's: on all columns, two updates would read as low."""
    (table,) = [panel for panel in panels(BOARDS["rl-fleet"]) if panel["title"].startswith("Runs, worst")]
    assert not any(
        "● healthy" in json.dumps(mapping, ensure_ascii=False)
        for mapping in table["fieldConfig"]["defaults"]["mappings"]
    )
    fixed = [o for o in table["fieldConfig"]["overrides"] if o["matcher"]["id"] == "byName"]
    (heads,) = [o for o in table["fieldConfig"]["overrides"] if o["matcher"]["id"] == "byRegexp"]
    pattern = re.compile(heads["matcher"]["options"])
    names = {o["matcher"]["options"] for o in fixed}
    names |= {p["value"] for o in fixed for p in o["properties"] if p["id"] == "displayName"}
    assert {"updates", "Value #Q3", "run_id", "worst head"} <= names
    assert not [name for name in names if pattern.match(name)]
    assert all(pattern.match(name) for name in (*HEAD_NAMES, "action", "head_0", "updates_2"))


def exported():
    families = {metric.name: metric.kind for metric in (*UPDATE_METRICS, *LIVE_METRICS)}
    return families | {name: kind for name, kind, *_ in SELF_METRICS}


def family(name):
    bare = re.sub(r"_(bucket|sum|count)$", "", name)
    return bare if bare in exported() else name


def recorded():
    rules = "".join(path.read_text() for path in sorted((ROOT / "prometheus/rules").glob("*.yml")))
    return set(re.findall(r"record: (\S+)", rules))


OTHERS = r"(prometheus|alertmanager|process|scrape)_\w+|up|ALERTS|ALERTS_FOR_STATE"


def unknown(names):
    known = set(exported()) | recorded()
    return {name for name in names if family(name) not in known and not re.fullmatch(OTHERS, name)}


@every_board
def test_every_metric_in_a_query_exists(uid):
    assert unknown(metrics(BOARDS[uid])) == set()
    assert unknown({"rl_policy_entropi_nats", "rl_training_updates_total"}) == {"rl_policy_entropi_nats"}


def test_every_exported_metric_is_shown_somewhere():
    shown = {family(name) for board in BOARDS.values() for name in metrics(board)}
    assert set(exported()) - shown == set()


@every_board
def test_every_query_on_a_run_follows_the_variables(uid):
    for where, expression in expressions(BOARDS[uid]):
        for selector in re.findall(
            r"(?:rl_policy|rl_training|rl_value|head:rl)\w*(?::\w+)*\{[^}]*\}", expression
        ):
            assert 'cluster=~"$cluster"' in selector, where
            assert 'run_id=~"$run_id"' in selector, where


def test_what_environments_report_has_a_panel_for_each_name():
    board = BOARDS["rl-run"]
    (panel,) = [panel for panel in panels(board) if panel.get("repeat") == "environment_metric"]
    (target,) = panel["targets"]
    assert "$environment_metric" in panel["title"]
    assert target["expr"] == f'{{__name__=~"rl_environment_($environment_metric)", {queries.RUN}}}'
    assert target["legendFormat"] == "__auto", "labels are the environments'"
    (variable,) = [one for one in board["templating"]["list"] if one["name"] == "environment_metric"]
    pattern = re.compile(variable["regex"].strip("/"))
    assert pattern.match("rl_environment_modules_ratio")[1] == "modules_ratio"


def test_a_prometheus_without_rules_is_named_where_it_would_be_missed():
    for uid in ("rl-heads", "rl-fleet", "rl-pipeline"):
        for panel in panels(BOARDS[uid]):
            needed = [
                t["expr"]
                for t in panel["targets"]
                if "head:rl_policy" in t["expr"] or "prometheus_rule_group_rules" in t["expr"]
            ]
            if needed and panel["type"] in {"stat", "timeseries"}:
                assert "rules loaded" in panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


def test_the_page_lists_every_dashboard():
    page = (ROOT / "docs/dashboards.md").read_text()
    rows = re.findall(r"^\| (RL \w+) \| `([\w-]+)` \|", page, flags=re.MULTILINE)
    assert {uid: title for title, uid in rows} == {uid: board["title"] for uid, board in BOARDS.items()}
