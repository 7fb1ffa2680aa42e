"""The dashboards as files: generated, whole, and held to the exporter's constants and metrics."""

import copy
import itertools
import json
import re

import pytest

from rl_dashboards import queries, style
from rl_dashboards.__main__ import stale
from rl_dashboards.missing import NO_CHOICE_RATIO, Missing
from rl_dashboards.ranking import ENDED, IN_TROUBLE, PAGES, STALLED, UNJUDGED, place_of
from rl_dashboards.run_dashboard import CLIP_REFERENCE, KL_REFERENCE
from rl_dashboards.verdict_queries import Verdict
from rl_exporter.health import DEFAULT_THRESHOLDS, EXPLODING_ABOVE, VANISHING_BELOW, HeadState, Level
from rl_exporter.metrics import LIVE_METRICS, SELF_METRICS, UPDATE_METRICS
from rl_exporter.snapshot import RunState
from rl_training.action_space import HEAD_NAMES
from tests.support.dashboard_files import (
    BOARDS,
    ROOT,
    expressions,
    metrics,
    panels,
    targets,
    variable_queries,
)

UIDS = {"rl-heads", "rl-run", "rl-fleet", "rl-compare", "rl-pipeline"}
ONE_RUN = {"rl-heads", "rl-run"}
every_board = pytest.mark.parametrize("uid", sorted(UIDS))


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
    assert list(listed) == ["datasource", *runs, "head", *own]
    several = {"head", *own} if uid in ONE_RUN else {*runs, "head"}
    if uid == "rl-compare":
        several.remove("head")
    for name in (*runs, "head", *own):
        assert listed[name].get("includeAll", False) is listed[name].get("multi", False) is (name in several)
        assert listed[name].get("allValue", ".*" if name not in several else "") == ".*"
        assert listed[name]["refresh"] == 2
    for expression in variable_queries(BOARDS[uid]).values():
        assert re.match(r"(label_values|query_result)\(", expression)


def test_the_run_that_is_shown_by_default_is_the_one_that_fleet_has_on_top():
    for uid in ONE_RUN:
        (variable,) = [one for one in BOARDS[uid]["templating"]["list"] if one["name"] == "run_id"]
        assert variable["sort"] == 0, "the order of the answer"
        expression = variable["query"]["query"]
        assert expression.startswith("query_result(sort(")
        assert expression.endswith("))")
        assert "$" not in expression.replace("$__range", ""), "no other variable: it is the first"
        found = re.compile(variable["regex"].strip("/")).search(
            '{cluster="lab", run_id="run.2+b"} -99 1700000000000'
        )
        assert found[1] == "run.2+b"


def test_one_run_is_matched_by_its_name_and_several_by_a_pattern():
    """Grafana escapes the value of a variable for a pattern only where the variable may have several."""
    for uid, board in BOARDS.items():
        queries_of_board = " ".join(expression for _, expression in expressions(board))
        for name in ("cluster", "namespace", "run_id"):
            assert (f'{name}="${name}"' in queries_of_board) is (uid in ONE_RUN), (uid, name)
            if (uid, name) != ("rl-pipeline", "run_id"):
                assert (f'{name}=~"${name}"' in queries_of_board) is (uid not in ONE_RUN), (uid, name)


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
    return set(steps(board["panels"])) - THRESHOLDS - {None, 1, KL_REFERENCE, CLIP_REFERENCE}


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
    for uid in ("rl-heads", "rl-run", "rl-fleet", "rl-compare"):
        # The heat map names the buckets of the histogram, whose bounds the thresholds are on purpose.
        compared = [panel for panel in panels(BOARDS[uid]) if panel["type"] != "heatmap"]
        assert copies_of_thresholds(json.dumps(compared)) == set(), uid
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
    for title in ("$head", "Weakest head"):
        (panel,) = [panel for panel in panels(BOARDS["rl-heads"]) if panel["title"] == title]
        (chosen,) = [t["options"] for t in panel["transformations"] if t["id"] == "configFromData"]
        assert chosen["mappings"] == [{"fieldName": "colour", "handlerKey": "color"}]
        (query,) = [t["expr"] for t in panel["targets"] if t["refId"] == chosen["configRefId"]]
        for code, level in enumerate(Level):
            now = f" and on () {queries.running()}".replace(queries.RUN, ONE) if level is Level.HEALTHY else ""
            assert f'== {code}{now}, "colour", "{style.LEVELS[level][1]}"' in query, title
        assert f'== 0, "colour", "{style.DIM}"' in query, "a run that is over"


def test_every_level_state_and_status_has_a_word_beside_its_colour():
    assert list(style.LEVELS) == list(Level) == list(queries.LEVEL_CODES)
    assert set(style.VERDICTS) == set(Verdict)
    assert set(style.STATES) == set(queries.HEAD_STATE_CODES) == set(HeadState)
    assert set(style.PHASES) == set(queries.RunPhase)
    assert {state.value for state in RunState} <= {phase.name.lower() for phase in queries.RunPhase}
    looks = (*style.LEVELS.values(), *style.VERDICTS.values(), *style.PHASES.values())
    for word in (*(look[0] for look in looks), *style.STATES.values()):
        assert len(word.split()) >= 2


def test_a_tile_has_the_colour_of_the_verdict_and_the_word_of_the_state_of_a_healthy_head():
    words = style.tile_mapping().options
    failures = [verdict for verdict in Verdict if verdict is not Verdict.HEALTHY]
    for state, code in queries.HEAD_STATE_CODES.items():
        for verdict in failures:
            shown = words[str(10 * (verdict + 1) + code)]
            assert (shown.text, shown.color) == style.VERDICTS[verdict]
        healthy = words[str(10 + code)]
        assert healthy.text == style.STATES[state]
        if state in {HeadState.HEALTHY, HeadState.CONFUSED, HeadState.UNSETTLED}:
            assert healthy.color == style.GREEN, "one thing, one colour"
        else:
            assert healthy.color not in {style.GREEN, style.RED}
        assert words[str(code)].color not in {style.GREEN, style.RED}, "without a verdict nothing is known"


def test_the_last_verdict_of_a_run_that_is_over_is_never_green():
    words = style.tile_mapping().options
    for code, shown in words.items():
        if int(code) < style.ENDED:
            past = words[str(int(code) + style.ENDED)]
            assert past.text == shown.text
            assert past.color == (style.DIM if shown.color == style.GREEN else shown.color)
    assert not any(shown.color == style.GREEN for code, shown in words.items() if int(code) >= style.ENDED)


def test_each_verdict_has_a_symbol_of_its_own():
    """Red and green look alike to many people, and a cell of Fleet shows nothing else."""
    symbols = [look[0].split()[0] for look in style.VERDICTS.values()]
    assert len(set(symbols)) == len(symbols)
    cells = style.cell_mapping().options
    assert {shown.text for shown in cells.values()} == set(symbols)
    assert {word for word in cells if "ended" not in word} == {look[0] for look in style.VERDICTS.values()}
    assert not [word for word, shown in cells.items() if "ended" in word and shown.color == style.GREEN]
    phases = [look[0].split()[0] for look in style.PHASES.values()]
    assert len(set(phases)) >= len(phases) - 1, "completed and interrupted have both ended"


def test_what_is_missing_is_a_word_and_has_no_colour_of_a_verdict():
    assert set(style.MISSING_MAPPING.options) == {str(int(reason)) for reason in Missing}
    for mapping in (style.MISSING_MAPPING, style.RATIO_MAPPING):
        assert {shown.color for shown in mapping.options.values()} == {style.DIM}
    assert NO_CHOICE_RATIO not in set(Missing)


def test_what_pages_stands_before_everything_else():
    order = [place_of(verdict) for verdict in (Verdict.EXPLODING, Verdict.DEAD, Verdict.COLLAPSED)]
    order += [IN_TROUBLE, STALLED, place_of(Verdict.LOW), place_of(Verdict.STARVED)]
    order += [place_of(Verdict.HEALTHY), place_of(Verdict.SETTLED), UNJUDGED, ENDED]
    assert all(before + 1 < after for before, after in itertools.pairwise(order)), "a ratio is at most 1"
    assert min(order) > ENDED + 1 + PAGES


def test_events_are_lines_at_the_time_at_which_they_happened():
    for board in BOARDS.values():
        marked = {one["name"]: one for one in board["annotations"]["list"]}
        shown = board["uid"] in ONE_RUN, "a fleet's would hide everything"
        assert list(marked) == (["Alerts", "Run", "Interventions"] if shown[0] else []), shown
        for annotation in marked.values():
            assert annotation["useValueForTime"] is annotation["enable"] is True
            assert annotation["expr"].startswith("1000 * "), "in milliseconds"


def test_no_count_of_a_fleet_or_of_a_run_is_made_up():
    """``or vector(0)`` is a zero also where there are no rules, no runs, or was no Prometheus yet."""
    for uid in UIDS - {"rl-pipeline"}:
        for where, expression in expressions(BOARDS[uid]):
            assert not expression.rstrip(")").endswith("or vector(0"), where
    for panel in panels(BOARDS["rl-pipeline"]):
        if panel["type"] == "timeseries":
            assert not [t["expr"] for t in panel["targets"] if "vector(0)" in t["expr"]], panel["title"]


def test_no_line_of_a_head_is_red_green_or_yellow():
    def looks_like_a_verdict(colour):
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        return max(red, green) > 1.7 * max(blue, 1) and (
            red > 2.2 * green or green > 1.2 * red or abs(red - green) < 50
        )

    assert not [colour for colour in style.HEAD_COLOURS if looks_like_a_verdict(colour)]
    assert all(map(looks_like_a_verdict, ("#F2495C", "#73BF69", "#FADE2A")))
    for panel in panels(BOARDS["rl-heads"]):
        drawn = [t for t in panel.get("targets", []) if t.get("legendFormat") == "{{head}}"]
        if panel["type"] == "timeseries" and drawn:
            fixed = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
            assert set(HEAD_NAMES) <= fixed, panel["title"]


def test_words_for_verdicts_are_said_of_heads_only():
    """Grafana adds an override's mappings to the panel's: on all columns, two updates would read as low."""
    (table,) = [panel for panel in panels(BOARDS["rl-fleet"]) if panel["title"].startswith("Runs, what")]
    assert not any(
        "● healthy" in json.dumps(mapping, ensure_ascii=False)
        for mapping in table["fieldConfig"]["defaults"]["mappings"]
    )
    fixed = [o for o in table["fieldConfig"]["overrides"] if o["matcher"]["id"] == "byName"]
    heads, *_widths = [o for o in table["fieldConfig"]["overrides"] if o["matcher"]["id"] == "byRegexp"]
    pattern = re.compile(heads["matcher"]["options"])
    names = {o["matcher"]["options"] for o in fixed}
    names |= {p["value"] for o in fixed for p in o["properties"] if p["id"] == "displayName"}
    assert {"pages", "Value #Q3", "run_id", "run is"} <= names
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


def call(expression, start):
    """A function call from where its name begins to its last bracket."""
    depth = 0
    for place, letter in enumerate(expression[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == ")" and not depth:
            return expression[start : place + 1]
    raise ValueError(f"no end: {expression[start:]}")


def absent_on_the_way(target):
    """What a graph says is absent at some time of its range, though it may be there at the end."""
    if target.get("instant"):
        return []
    found = (call(target["expr"], one.start()) for one in re.finditer(r"absent\w*\(", target["expr"]))
    return [one for one in found if "@ end()" not in one]


@every_board
def test_what_was_absent_before_a_run_began_is_not_said_beside_its_values(uid):
    assert [one for _, target in targets(BOARDS[uid]) for one in absent_on_the_way(target)] == []


def test_that_check_sees_a_range():
    missing = "-4 + 0 * absent(count(last_over_time(x[$__range])))"
    assert absent_on_the_way({"expr": missing}) != []
    assert absent_on_the_way({"expr": missing, "instant": True}) == []
    assert absent_on_the_way({"expr": missing.replace("]", "] @ end()")}) == []


def test_every_exported_metric_is_shown_somewhere():
    shown = {family(name) for board in BOARDS.values() for name in metrics(board)}
    assert set(exported()) - shown == set()


@every_board
def test_every_query_on_a_run_follows_the_variables(uid):
    for where, expression in expressions(BOARDS[uid]):
        for selector in re.findall(
            r"(?:rl_policy|rl_training|rl_value|head:rl)\w*(?::\w+)*\{[^}]*\}", expression
        ):
            for name in ("cluster", "namespace", "run_id"):
                assert f'{name}{"=" if uid in ONE_RUN else "=~"}"${name}"' in selector, where


ONE = 'cluster="$cluster", namespace="$namespace", run_id="$run_id"'


def test_what_environments_report_has_a_panel_for_each_name():
    board = BOARDS["rl-run"]
    (panel,) = [panel for panel in panels(board) if panel.get("repeat") == "environment_metric"]
    (target,) = panel["targets"]
    assert "$environment_metric" in panel["title"]
    assert target["expr"] == f'{{__name__=~"rl_environment_($environment_metric)", {ONE}}}'
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
                said = json.dumps(
                    [
                        panel["fieldConfig"]["defaults"]["noValue"],
                        panel["fieldConfig"]["defaults"].get("mappings"),
                    ]
                )
                assert "rules loaded" in said, panel["title"]


def test_the_page_lists_every_dashboard():
    page = (ROOT / "docs/dashboards.md").read_text()
    rows = re.findall(r"^\| (RL \w+) \| `([\w-]+)` \|", page, flags=re.MULTILINE)
    assert {uid: title for title, uid in rows} == {uid: board["title"] for uid, board in BOARDS.items()}
