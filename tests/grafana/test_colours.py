"""Colours, words and thresholds of the dashboards: they are the exporter's, and one thing has one look."""

import json
import re

from rl_dashboards import queries, style
from rl_dashboards.missing import NO_CHOICE_RATIO, Missing
from rl_dashboards.run_dashboard import CLIP_REFERENCE, KL_REFERENCE
from rl_dashboards.verdict_queries import Verdict
from rl_exporter.health import DEFAULT_THRESHOLDS, EXPLODING_ABOVE, VANISHING_BELOW, HeadState, Level
from rl_exporter.snapshot import RunState
from rl_training.action_space import HEAD_NAMES
from tests.support.dashboard_files import BOARDS, ONE, panels

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
