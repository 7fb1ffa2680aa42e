"""Numbers of environments: what is taken, what is left out and said once, and that all outputs show the same."""

import json
import logging
import re

import numpy as np
import pytest
import torch

import rl_exporter
from rl_exporter import HeadMeasurement, PPOUpdatePayload, SanctumAggregator, parse_snapshot
from rl_exporter.collector import Renderer
from rl_exporter.environment_metrics import (
    MOST_SERIES,
    EnvironmentMetrics,
    EnvironmentNumber,
    Series,
    episode_means,
    series_of,
)
from rl_exporter.metrics import update_values
from rl_exporter.server.landing_page import landing_page
from rl_exporter.view.document import document
from rl_exporter.view.layout import lay_out, plain_text
from rl_exporter.view.run_view import run_view
from tests.support.panel_runs import NOW, run_of

OP = {"op": HeadMeasurement(1.0, 0.8, 0.75, 0.75)}
MODULES = {
    "accuracy_ratio": 0.622,
    "grown_parameters": 1470.0,
    'modules_ratio{slot="a",kind="conv"}': 0.75,
    'modules_ratio{slot="b",kind="norm"}': 0.25,
}


def read(reported, times=1):
    """What is kept of the last reading, and all that was said."""
    said = []
    metrics = EnvironmentMetrics(said.append)
    for _ in range(times):
        reading = metrics.read(reported)
    return reading, said


def test_a_key_is_a_series_as_prometheus_writes_it():
    assert series_of("accuracy_ratio") == Series("accuracy_ratio")
    assert series_of('wins_ratio{map="ice",a="b c/ü"}').labels == (("a", "b c/ü"), ("map", "ice"))
    for key in ("accuracy_ratio", 'wins_ratio{a="b",map="ice"}'):
        assert series_of(key).key == key


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (1, 1.0), (True, 1.0), (np.float32(0.5), 0.5), (np.int64(3), 3.0), (np.array([2.0]), 2.0),
        (torch.tensor(0.25), 0.25), (-0.0, 0.0),
    ],
)  # fmt: skip
def test_numbers_of_any_library_are_taken(value, taken):
    assert read({"x": value}) == (({"x": taken}, 0), [])


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("Accuracy", 1.0, "a name has lower-case letters, digits and _, and a letter first; such as accuracy_ratio"),
        ("episode reward", 1.0, "a name has lower-case letters"),
        ("", 1.0, "a name has lower-case letters"),
        ("2nd", 1.0, "a name has lower-case letters"),
        (7, 1.0, "a name is a text; such as accuracy_ratio"),
        ("wins_total", 1.0, "rl_environment_wins_total would be a gauge, and names of gauges do not end in _total"),
        ("x_bucket", 1.0, "choose another name"),
        ("x" * 201, 1.0, "its key has 201 characters; use at most 200"),
        ("x{}", 1.0, 'labels are written {slot="a",kind="b"}'),
        ("x{slot=a}", 1.0, 'labels are written {slot="a",kind="b"}'),
        ('x{slot="a"', 1.0, "a name has lower-case letters"),
        ('x{slot="a"b="c"}', 1.0, "labels are written"),
        ('x{slot="a",slot="b"}', 1.0, "labels are written"),
        ('x{slot=""}', 1.0, "labels are written"),
        ('x{slot="a\n"}', 1.0, "labels are written"),
        ('x{run_id="other"}', 1.0, "the label run_id belongs to Prometheus or to the run; choose another name"),
        ('x{__name__="y"}', 1.0, "the label __name__ belongs to Prometheus"),
        ('x{slot="\ud800"}', 1.0, "is not valid UTF-8"),
        ("x", "0.5", "its value is '0.5'; report one number"),
        ("x", [1.0, 2.0], "its value is [1.0, 2.0]; report one number"),
        ("x", np.zeros(3), "its value is array([0., 0., 0.]); report one number"),
        ("x", float("nan"), "it is nan; report finite numbers"),
        ("x", 10**400, "it is inf; report finite numbers"),
        ("x", {"conv": 3}, """its value is {'conv': 3}; write one key a number, such as x{kind="conv"}"""),
    ],
)  # fmt: skip
def test_what_is_impossible_is_left_out_and_said_once_in_one_line(key, value, why):
    (numbers, left_out), said = read({key: value, "y": 1.0}, times=3)
    assert (numbers, left_out) == ({"y": 1.0}, 1)
    (line,) = said
    assert line.startswith("environment metric ")
    assert " is left out: " in line
    assert why in line
    assert "\n" not in line
    assert len(line) < 400


def test_what_is_not_measured_is_no_problem():
    assert read({"x": None, "y": 1.0}) == (({"y": 1.0}, 0), [])


@pytest.mark.parametrize("reported", [[1.0], 3, "accuracy", object()])
def test_what_is_no_mapping_is_said_once(reported):
    (numbers, left_out), said = read(reported, times=2)
    assert (numbers, left_out, len(said)) == ({}, 1, 1)
    assert "is no mapping; give numbers by name" in said[0]


class Hostile(dict):
    def items(self):
        raise RuntimeError("not now")


class Unspeakable:
    def __float__(self):
        raise ZeroDivisionError

    def __repr__(self):
        raise ValueError("no word")


@pytest.mark.parametrize("reported", [Hostile(x=1), {"x": Unspeakable()}, {Unspeakable(): 1.0}])
def test_nothing_that_is_reported_raises(reported):
    (numbers, left_out), said = read(reported)
    assert (numbers, left_out, len(said)) == ({}, 1, 1)


def test_a_name_keeps_the_labels_that_it_had_first():
    said = []
    metrics = EnvironmentMetrics(said.append)
    assert metrics.read({'x{a="1",b="2"}': 1.0}).numbers == {'x{a="1",b="2"}': 1.0}
    assert metrics.read({'x{b="3",a="1"}': 1.0}).numbers == {'x{a="1",b="3"}': 1.0}
    assert metrics.read({"x": 1.0, 'x{a="1"}': 1.0}).left_out == 2
    assert said[0].endswith("its name came with the labels a, b before; give a name the same labels")


def test_a_run_has_a_bounded_number_of_series_and_of_lines():
    keys = {f'deaths{{seed="{number}"}}': 1.0 for number in range(1000)}
    (numbers, left_out), said = read(keys, times=2)
    assert list(numbers) == list(keys)[:MOST_SERIES]
    assert left_out == 1000 - MOST_SERIES
    assert len(said) == 20
    assert "a run has 48 series of its environments at most; report fewer labels" in said[0]


def test_a_mean_is_over_the_episodes_that_reported_the_name():
    episodes = [
        {"score": 1.0, 'wins_ratio{map="ice"}': 1.0},
        {"score": 3.0, 'wins_ratio{map="sand"}': 0.5},
        {'wins_ratio{map="ice"}': 0.0},
        {},
    ]
    assert episode_means(episodes) == {
        "score": 2.0,
        'wins_ratio{map="ice"}': pytest.approx(1 / 3),
        'wins_ratio{map="sand"}': pytest.approx(1 / 6),
    }
    assert episode_means([]) == {}


def test_an_update_replaces_what_environments_report_and_one_without_keeps_it():
    run = run_of(OP, environment_metrics=MODULES)
    assert run.snapshot().environment_metrics[0] == EnvironmentNumber(Series("accuracy_ratio"), 0.622)
    run.handle_ppo_update(PPOUpdatePayload(heads=OP))
    assert len(run.snapshot().environment_metrics) == 4
    run.handle_ppo_update(PPOUpdatePayload(heads=OP, environment_metrics={"accuracy_ratio": 0.7}))
    assert run.snapshot().environment_metrics == ((Series("accuracy_ratio"), 0.7),)
    resumed = SanctumAggregator(run.snapshot().tamiyo.heads, run.snapshot().run, resumed=run.snapshot())
    assert resumed.snapshot().environment_metrics == run.snapshot().environment_metrics


def test_a_bad_number_is_counted_and_is_no_error_of_the_heads_record(caplog):
    run = run_of(OP, environment_metrics={"Bad": 1.0, "good": 2.0})
    run.handle_ppo_update(PPOUpdatePayload(heads=OP, environment_metrics={"Bad": 1.0, "good": 2.0}))
    snapshot = run.snapshot()
    assert snapshot.environment_metrics == ((Series("good"), 2.0),)
    assert dict(snapshot.dropped) == {"environment_metrics": 2}
    assert snapshot.record_errors == 0
    assert snapshot.tamiyo.updates == 2
    assert len([record for record in caplog.records if "'Bad'" in record.getMessage()]) == 1


def test_record_takes_them_from_any_loop(caplog):
    caplog.set_level(logging.CRITICAL)
    with rl_exporter.serve({"arm": 3}, run_id="mine", listen="127.0.0.1:0", linger=0) as recorder:
        recorder.record({"arm": 1.0}, environment_metrics={"distance_meters": np.float32(0.5), "Bad": 1})
        recorder.record({"arm": 1.0}, environment_metrics=[1.0])
        assert recorder.snapshot().environment_metrics == ()
        assert recorder.snapshot().tamiyo.updates == 2
        recorder.record({"arm": 1.0}, environment_metrics={"distance_meters": 0.25})
    assert recorder.snapshot().environment_metrics == ((Series("distance_meters"), 0.25),)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_metrics_json_log_panel_and_page_show_the_same_and_can_be_read_back(accept):
    snapshot = run_of(OP, environment_metrics=MODULES, episode_length=27.5).snapshot()
    body = Renderer(lambda: snapshot).render(accept)[0].decode()
    assert 'rl_environment_modules_ratio{kind="conv",run_id="run",slot="a"} 0.75\n' in body
    assert 'rl_environment_accuracy_ratio{run_id="run"} 0.622\n' in body
    assert "# TYPE rl_environment_grown_parameters gauge\n" in body
    assert parse_snapshot(body) == snapshot
    assert update_values(snapshot)["rl_environment_modules_ratio"] == {"conv": {"a": 0.75}, "norm": {"b": 0.25}}
    assert json.loads(json.dumps(document(snapshot)))["environment_metrics"] == {
        series_of(key).key: value for key, value in MODULES.items()
    }
    panel = plain_text(lay_out(run_view(snapshot, NOW), 100))
    page = re.sub(r"<[^>]+>", " ", landing_page(snapshot, NOW))
    for shown in (panel, page):
        text = " ".join(shown.split())
        assert "accuracy_ratio 62.2%" in text
        assert "grown_parameters 1,470" in text
        assert "modules_ratio conv a 75.0% norm b 25.0%" in text
        assert "length 27.500" in text
    lines = panel.splitlines()
    heads, environment = (
        next(i for i, line in enumerate(lines) if word in line) for word in ("State", "grown_")
    )
    assert heads < environment, "the heads come first"


def test_the_panel_shows_the_largest_of_many_labels():
    numbers = {f'x_ratio{{kind="k{n:02}"}}': n / 100 for n in range(30)}
    panel = plain_text(lay_out(run_view(run_of(OP, environment_metrics=numbers).snapshot(), NOW), 200))
    assert "x_ratio k29 29.0%   k28 28.0%" in panel
    assert "and 24 more" in panel
    assert "k23" not in panel


def test_a_label_cannot_steer_the_terminal():
    run = run_of(OP, environment_metrics={'x{kind="\x1b[2J"}': 1.0})
    assert "\x1b" not in plain_text(lay_out(run_view(run.snapshot(), NOW), 100))
