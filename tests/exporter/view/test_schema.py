"""heads.schema.json describes the JSON document of `watch --json` and of GET /api/v1/heads."""

import copy
import json
import math
import re
from dataclasses import fields
from typing import get_type_hints

import jsonschema
import pytest

from rl_exporter import HeadMeasurement, Heads, HeadState, Level, RunInfo, RunState, SanctumAggregator
from rl_exporter.health import Condition
from rl_exporter.numbers import DurationNumbers, attributes
from rl_exporter.snapshot import HeadReading, SanctumSnapshot, TamiyoState
from rl_exporter.view.document import HEALTHY, SCHEMA_VERSION, document
from rl_exporter.view.findings import _WORDS
from rl_exporter.view.verdict import Status
from tests.support import ROOT
from tests.support.panel_runs import STATES, drill, ratio_run, run_of

FILE = ROOT / "exporter/rl_exporter/view/heads.schema.json"
TEXT, WHOLE, FLAG = ({"type": kind} for kind in ("string", "integer", "boolean"))
NUMBER, SHARE = {"type": "number"}, {"type": "number", "minimum": 0, "maximum": 1}
COUNT = {"type": "integer", "minimum": 0}
HEAD_WORDS = [word for word in _WORDS if word != "errors"]


def nullable(schema):
    return schema | {"type": [schema["type"], "null"]}


def said(schema, description):
    return schema | {"description": description}


def words(values, *, null=False):
    return {"enum": [*map(str, values), *([None] if null else [])]}


def record(properties):
    return {"type": "object", "required": list(properties), "properties": properties}


def mapping(of):
    return {"type": "object", "additionalProperties": of}


def numbers(owner, description=lambda number: number.row.help):
    return {
        number.name: said(WHOLE if number.whole else nullable(NUMBER), description(number))
        for number in attributes(owner)
    }


HISTOGRAM = record(
    {
        "bounds": {"type": "array", "items": NUMBER},
        "counts": said(
            {"type": "array", "items": COUNT}, "Of each bucket alone; one more than bounds, for what is larger."
        ),
        "sum": NUMBER,
    }
)


def head_schema():
    return record(
        {
            "name": TEXT,
            "choices": {"type": "integer", "minimum": 1},
            "max_entropy": said(NUMBER, "ln(choices), in nats."),
            "entropy_multiplier": said(NUMBER, "Factor on the entropy coefficient of the run."),
            **numbers(HeadReading),
            "effective": said(nullable(NUMBER), "The ratio that the verdict rests on."),
            "level": said(words(Level, null=True), "Of the effective ratio, under the thresholds of the head."),
            "status": said(
                words([s.name.lower() for s in Status if s is not Status.NO_DATA], null=True),
                "What the head adds to the exit status of watch --once.",
            ),
            "verdict": said(
                words([*HEAD_WORDS, HEALTHY], null=True),
                "The worst that stands out after the last update; null: nothing can be said.",
            ),
            "since": said(
                nullable(NUMBER),
                "Unix time since which the verdict has held; null until it has held for three updates.",
            ),
            "evidence": said(nullable(TEXT), "What shows it, in words."),
            "state": words(HeadState, null=True),
            "state_streak": COUNT,
            "warning_streak": said(nullable(COUNT), "Consecutive updates at or below the warning threshold."),
            "critical_streak": said(nullable(COUNT), "Consecutive updates at or below the critical threshold."),
            "thresholds": record({"warning": SHARE, "critical": SHARE}),
            "blind": said(FLAG, "Whether the head takes no notice of the state, as far as is known."),
            "settled": said(FLAG, "Whether it is critical, but decides by the state."),
            "actions": said(mapping(SHARE), "Mean probability over the choice steps, by name or index."),
            "conditions": said(
                mapping(NUMBER) | {"propertyNames": words(Condition)},
                "What has held for three updates or more, and since when (Unix time).",
            ),
            "unmeasured_updates": said(nullable(COUNT), "Updates since the head was last measured."),
            "effective_histogram": HISTOGRAM,
        }
    )


def run_schema():
    hints = get_type_hints(RunInfo)
    return {field.name: WHOLE if hints[field.name] is int else TEXT for field in fields(RunInfo)}


def schema():
    body = record(
        {
            "schema_version": said(
                {"const": SCHEMA_VERSION}, "Rises when a field changes its meaning or goes."
            ),
            "url": said(nullable(TEXT), "Where watch read the run; null where the run itself answers."),
            **run_schema(),
            "run_state": words(RunState),
            "status": said(
                words(s.name.lower() for s in Status), "Of the worst head; the exit status of watch --once."
            ),
            **numbers(TamiyoState),
            **numbers(SanctumSnapshot),
            **{f"{number.name}s": said(HISTOGRAM, number.row.help) for number in attributes(DurationNumbers)},
            "record_errors": COUNT,
            "environment_metrics": said(mapping(nullable(NUMBER)), "What the environments report, by series."),
            "dropped_values": said(mapping(COUNT), "Impossible values that were not kept, by field."),
            "heads": {"type": "array", "items": head_schema()},
        }
    )
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Action heads of a run",
        "description": "The document of `rl-exporter watch --once --json` and of GET /api/v1/heads.",
    }
    return json.loads(json.dumps(head | body))  # no two places share an object


def broken(old, new, path="document"):
    """What a reader of the ``old`` schema finds missing or changed in the ``new`` one."""
    if "properties" not in old:
        plain = [{key: of[key] for key in of if key not in {"description", "items"}} for of in (old, new)]
        found = [path] if plain[0] != plain[1] else []
        return found + (broken(old["items"], new.get("items", {}), f"{path}[]") if "items" in old else [])
    others = new.get("properties", {})
    return [
        part
        for name, each in old["properties"].items()
        for part in (broken(each, others[name], f"{path}.{name}") if name in others else [f"{path}.{name}"])
    ]


def version(of):
    return of["properties"]["schema_version"]["const"]


def test_the_file_is_that_of_the_document(request):
    committed, current = json.loads(FILE.read_text()), schema()
    if version(committed) == version(current):
        assert broken(committed, current) == [], (
            "readers break: raise SCHEMA_VERSION, and say so in the changelog"
        )
    text = json.dumps(current, indent=1, ensure_ascii=False) + "\n"
    if request.config.getoption("--golden"):
        FILE.write_text(text)
    assert FILE.read_text() == text, "run: pytest tests/exporter/view/test_schema.py --golden"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d["heads"]["items"]["properties"].pop("since"), ["document.heads[].since"]),
        (lambda d: d["status"]["enum"].remove("warning"), ["document.status"]),
        (lambda d: d["seed"].update(type="integer"), ["document.seed"]),
        (lambda d: d.update(new=TEXT), []),
        (lambda d: d["status"].update(description="In other words."), []),
    ],
)
def test_that_check_sees_what_breaks_readers(change, found):
    changed = copy.deepcopy(schema())
    change(changed["properties"])
    assert broken(schema(), changed) == found


def snapshots():
    fresh = SanctumAggregator(Heads.of({"op": 6, "only": 1}), RunInfo("fresh"))
    yield fresh.snapshot()
    odd = HeadMeasurement(1.0, 0.3, 0.5, 0.9, math.inf, 1.5, nan_steps=2)
    yield run_of(
        {"a": odd, "b": HeadMeasurement(None)}, environment_metrics={'wins{map="ice"}': 0.5}
    ).snapshot()
    for measurement, *_ in STATES.values():
        yield run_of({"op": measurement}, episode_return=1.0, update_duration=0.1).snapshot()
    yield from list(drill())[::5]


def strict(of):
    """The schema with every field it does not name forbidden, so that a field without a description shows."""
    if isinstance(of, dict):
        closed = {key: strict(value) for key, value in of.items()}
        return closed | {"additionalProperties": False} if "properties" in of and "required" in of else closed
    return [strict(each) for each in of] if isinstance(of, list) else of


def test_every_document_is_as_the_schema_says():
    validator = jsonschema.Draft202012Validator(strict(json.loads(FILE.read_text())))
    seen = set()
    for snapshot in snapshots():
        found = json.loads(json.dumps(document(snapshot), allow_nan=False))
        validator.validate(found)
        seen |= {head["verdict"] for head in found["heads"]}
    assert {None, "healthy", "collapsed", "dead", "exploding"} <= seen
    for name in ("since", "effective_histogram", "blind"):
        lacking = copy.deepcopy(found)
        del lacking["heads"][0][name]
        assert not validator.is_valid(lacking)
    assert not validator.is_valid(found | {"surprise": 1})


def test_a_verdict_has_a_time_once_it_has_held_for_three_updates():
    collapsed = {
        step: next(head for head in document(snapshot)["heads"] if head["name"] == "blueprint")
        for step, snapshot in enumerate(drill())
    }
    first = min(step for step, head in collapsed.items() if head["verdict"] == "collapsed")
    assert [collapsed[first + i]["since"] is None for i in range(3)] == [True, True, False]
    last = collapsed[max(collapsed)]
    assert last["verdict"] == "collapsed"
    assert last["since"] == last["conditions"]["collapsed"]
    assert re.match(r"choice entropy 0\.0\d\d for \d+ updates: ", last["evidence"])
    (healthy,) = document(ratio_run(0.8).snapshot())["heads"]
    assert (healthy["verdict"], healthy["since"], healthy["evidence"]) == ("healthy", None, None)
