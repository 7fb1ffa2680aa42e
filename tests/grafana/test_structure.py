"""The dashboards as files: generated, whole, and held to the exporter's constants and metrics."""

import copy
import itertools
import json
import math
import re

import pytest

from rl_dashboards import queries, style
from rl_dashboards.__main__ import stale
from rl_exporter.health import (
    CRITICAL_THRESHOLD,
    EXPLODING_ABOVE,
    VANISHING_BELOW,
    WARNING_THRESHOLD,
    HeadState,
    Level,
    level,
)
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
    assert list(listed) == ["datasource", "cluster", "run_id", "head"]
    for name in ("cluster", "run_id", "head"):
        assert listed[name]["includeAll"]
        assert listed[name]["allValue"] == ".*"
        assert listed[name]["refresh"] == 2
    for expression in variable_queries(BOARDS[uid]).values():
        assert expression.startswith("label_values(rl_")


@every_board
def test_links_keep_time_range_and_variables(uid):
    (link,) = BOARDS[uid]["links"]
    assert (link["type"], link["keepTime"], link["includeVars"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(BOARDS[uid]["tags"])
    for url in re.findall(r'"url": "(/d/[^"]+)"', json.dumps(BOARDS[uid])):
        assert url.split("?")[0].removeprefix("/d/") in UIDS
        assert "${__url_time_range}" in url
        assert {"var-cluster=", "var-run_id=", "var-head="} <= set(re.findall(r"var-\w+=", url))


THRESHOLDS = {CRITICAL_THRESHOLD, WARNING_THRESHOLD, EXPLODING_ABOVE, VANISHING_BELOW}
EXACT = {math.nextafter(value, 1) for value in (CRITICAL_THRESHOLD, WARNING_THRESHOLD)}


def steps(node):
    if isinstance(node, dict):
        for step in node.get("steps", []) if isinstance(node.get("steps"), list) else []:
            yield step["value"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from steps(part)


def foreign_thresholds(board):
    return set(steps(board["panels"])) - THRESHOLDS - EXACT - {None, 1}


def test_every_threshold_on_a_head_is_the_exporters():
    for uid in ("rl-heads", "rl-run", "rl-fleet"):
        assert foreign_thresholds(BOARDS[uid]) == set()
    assert set(steps(BOARDS["rl-heads"]["panels"])) >= THRESHOLDS | EXACT
    wrong = json.loads(json.dumps(BOARDS["rl-heads"]).replace(str(EXPLODING_ABOVE), "6.5"))
    assert foreign_thresholds(wrong) == {6.5}


def colour(built, value):
    """The colour that Grafana gives a value: that of the last step at or below it."""
    return [step.color for step in built.steps if step.value is None or value >= step.value][-1]


def test_a_ratio_gets_the_colour_of_its_level_exactly():
    built = style.level_thresholds().build()
    values = [0.0, 0.1, 1.0]
    for threshold in (CRITICAL_THRESHOLD, WARNING_THRESHOLD):
        values += [math.nextafter(threshold, 0), threshold, math.nextafter(threshold, 1)]
    for value in values:
        assert colour(built, json.loads(json.dumps(value))) == style.LEVELS[level(value)][1]
    assert colour(style.level_bands().build(), WARNING_THRESHOLD) != style.LEVELS[Level.WARNING][1]


def test_every_level_state_and_status_has_a_word_beside_its_colour():
    assert list(style.LEVELS) == list(Level)
    assert set(style.STATES) == set(queries.HEAD_STATE_CODES) == set(HeadState)
    assert set(style.PHASES) == set(queries.RunPhase)
    assert {state.value for state in RunState} <= {phase.name.lower() for phase in queries.RunPhase}
    for word, _ in (*style.LEVELS.values(), *style.STATES.values(), *style.PHASES.values(), style.NO_CHOICE):
        assert len(word.split()) >= 2


def test_a_tile_shows_the_sign_of_the_level_and_the_word_of_the_state():
    words = style.verdict_mapping().options
    for number, verdict in enumerate(Level):
        for state, code in queries.HEAD_STATE_CODES.items():
            shown = words[str(10 * (number + 1) + code)]
            severe = style.STATES[state][1] == style.RED
            sign, colour = style.LEVELS[Level.CRITICAL if severe else verdict]
            assert shown.color == colour
            assert shown.text[:2] == sign[:2], "a sign for the level, beside its colour"
            says_less = state == HeadState.UNSETTLED and verdict != Level.HEALTHY
            assert shown.text[2:] == (verdict if says_less else state)
            assert len(shown.text) <= len("▲ deterministic"), "which fills a tile"
    for state, code in queries.HEAD_STATE_CODES.items():
        assert words[str(code)].text == style.STATES[state][0], "without a level: no rules loaded"
    assert words[str(queries.NO_CHOICE_CODE)].text == style.NO_CHOICE[0]


def test_each_alert_is_one_line_at_the_time_it_became_active():
    for board in BOARDS.values():
        (annotation,) = board["annotations"]["list"]
        assert annotation["useValueForTime"] is True
        assert annotation["expr"].startswith("1000 * (ALERTS_FOR_STATE{"), "in milliseconds"
        assert annotation["enable"] is (board["uid"] in {"rl-heads", "rl-run"}), (
            "a fleet's would hide everything"
        )


def test_words_for_levels_are_said_of_heads_only():
    """Grafana adds an override's mappings to the panel's: on all columns, two updates would read as critical."""
    (table,) = [panel for panel in panels(BOARDS["rl-fleet"]) if panel["title"].startswith("Runs, worst")]
    words = {0: "● healthy", 1: "◆ warning"}
    assert not any(
        words[0] in json.dumps(mapping, ensure_ascii=False)
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
    return set(re.findall(r"record: (\S+)", (ROOT / "prometheus/rules/entropy.yml").read_text()))


OTHERS = r"(prometheus|alertmanager|process|scrape)_\w+|up|ALERTS|ALERTS_FOR_STATE"
UNUSED = {
    "rl_policy_head_condition_since_timestamp_seconds": "for the rules; people read streaks, which an ended run keeps",
}
"""Exported metrics that no dashboard shows, with the reason."""


def unknown(names):
    known = set(exported()) | recorded()
    return {name for name in names if family(name) not in known and not re.fullmatch(OTHERS, name)}


@every_board
def test_every_metric_in_a_query_exists(uid):
    assert unknown(metrics(BOARDS[uid])) == set()
    assert unknown({"rl_policy_entropi_nats", "rl_training_updates_total"}) == {"rl_policy_entropi_nats"}


def test_every_exported_metric_is_shown_somewhere():
    shown = {family(name) for board in BOARDS.values() for name in metrics(board)}
    assert set(exported()) - shown == set(UNUSED)


@every_board
def test_every_query_on_a_run_follows_the_variables(uid):
    for where, expression in expressions(BOARDS[uid]):
        for selector in re.findall(
            r"(?:rl_policy|rl_training|rl_value|head:rl)\w*(?::\w+)*\{[^}]*\}", expression
        ):
            assert 'cluster=~"$cluster"' in selector, where
            assert 'run_id=~"$run_id"' in selector, where


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
