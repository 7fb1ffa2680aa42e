"""What a number of a head looks like to people: its text, its colour and its symbol."""

import math

import pytest

from rl_exporter import Head, HeadMeasurement, HeadState
from rl_exporter.health import DEFAULT_THRESHOLDS, START_THRESHOLDS, Level, Thresholds, level
from rl_exporter.panel.action_heads_panel import _entropy_color
from rl_exporter.snapshot import HeadReading
from rl_exporter.view import cells
from rl_exporter.view.cells import Bar, Cell, Tone
from rl_exporter.view.rich_text import cell_style
from tests.support.panel_runs import STATES, run_of

ABOVE = {ratio: math.nextafter(ratio, 1) for ratio in (0.25, 0.5)}


@pytest.mark.parametrize(
    ("ratio", "color", "letter"),
    [
        (0.0, "red", "C"),
        (0.25, "red", "C"),
        (ABOVE[0.25], "yellow", "W"),
        (0.5, "yellow", "W"),
        (ABOVE[0.5], "green", "H"),
        (1.0, "green", "H"),
        (math.nan, "", ""),
        (None, "", ""),
    ],
)
def test_colour_and_letter_at_every_boundary(ratio, color, letter):
    assert _entropy_color(ratio) == color
    assert cells.level_letter(level(ratio)) == letter
    style = cell_style(Cell("x", level=level(ratio)))
    assert (style.color.name if style.color else "") == color


OWN = Thresholds(0.4, 0.2)


@pytest.mark.parametrize(
    ("ratio", "color", "letter"),
    [(0.45, "green", "H"), (0.4, "yellow", "W"), (0.25, "yellow", "W"), (0.2, "red", "C")],
)
def test_colour_and_letter_come_from_the_thresholds_of_the_head(ratio, color, letter):
    assert _entropy_color(ratio, OWN) == color
    reading = HeadReading(
        entropy=ratio * math.log(4), normalized=ratio, choice_entropy=ratio, measured_update=1, thresholds=OWN
    )
    shown = [cells.entropy(Head("op", 4), reading), cells.choice(reading)[0], *cells.sparkline([ratio], OWN)]
    assert [cell_style(cell).color.name for cell in (*shown, cells.entropy_bar(reading))] == [color] * 4
    assert [cell.text[-1] for cell in shown[:2]] == [letter] * 2


def test_a_head_with_a_reference_is_judged_by_its_share_of_it():
    """0.6 nats of 151,936 choices are 5 % of the maximum, and all that the head ever had."""
    head = Head("token", 151_936, reference=0.6)
    reading = HeadReading(
        entropy=0.6,
        normalized=head.normalize(0.6),
        reference=0.6,
        relative=True,
        choice_entropy=0.05,
        measured_update=1,
        thresholds=START_THRESHOLDS,
    )
    assert cells.entropy(head, reading) == Cell("0.600 H", level=Level.HEALTHY)
    assert cells.entropy_bar(reading) == Bar(1.0, level=Level.HEALTHY)
    assert cells.choice(reading) == (Cell("0.050"),)


@pytest.mark.parametrize(
    ("multiplier", "shown"),
    [(1.3, "1.3x0.456"), (1.0, "0.456"), (0.5, "0.456"), (1.25, "1.25x0.456"), (2, "2x0.456")],
)
def test_the_prefix_stands_before_heads_above_the_base_only(multiplier, shown):
    reading = HeadReading(entropy=0.456, normalized=0.4151, measured_update=1)
    cell = cells.entropy(Head("blueprint", 3, multiplier), reading)
    assert cell.text == f"{shown} W"
    assert cell.level is Level.WARNING


def test_the_normalized_entropy_decides_the_colour_of_the_nats():
    """0.6 nats are healthy of 3 choices and critical of 13."""
    small, large = Head("a", 3), Head("b", 13)
    for head, color in ((small, "green"), (large, "red")):
        reading = HeadReading(entropy=0.6, normalized=head.normalize(0.6), measured_update=1)
        assert cell_style(cells.entropy(head, reading)).color.name == color


@pytest.mark.parametrize("state", HeadState)
def test_every_state_has_its_symbol_colour_and_word(state):
    measurement, symbol, color = STATES[state]
    reading = run_of({"op": measurement}).snapshot().tamiyo.readings["op"]
    assert reading.state is state
    mark, word = cells.state(reading)
    assert (mark.text, word.text) == (symbol, state.value)
    style = cell_style(mark)
    assert (style.color.name if style.color else None) == color
    assert bool(style.dim) == (color is None)


def test_a_head_that_had_no_choice_is_a_dim_diamond():
    reading = run_of({"op": HeadMeasurement(0.9, None, 0.0, 0.5, 0.1)}).snapshot().tamiyo.readings["op"]
    assert reading.state is HeadState.DETERMINISTIC
    mark, word = cells.state(reading)
    assert (mark.text, word.text, mark.tone) == ("◇", "no choice", Tone.DIM)


def test_a_deterministic_head_that_decides_by_the_state_is_dim():
    measured = {
        "blind": HeadMeasurement(0.01, 0.05, 1.0, 1.0, 0.1, state_information=0.001),
        "settled": HeadMeasurement(0.01, 0.05, 1.0, 1.0, 0.1, state_information=0.8),
    }
    readings = run_of(measured).snapshot().tamiyo.readings
    marks = {name: cells.state(reading)[0] for name, reading in readings.items()}
    assert {name: mark.text for name, mark in marks.items()} == {"blind": "◆", "settled": "◆"}
    assert marks["blind"].tone is Tone.WARNING
    assert marks["settled"].tone is Tone.DIM


def test_state_information_and_the_leading_action_are_shown_where_they_are_known():
    head = Head("op", 3, actions=("WAIT", "GROW", "PRUNE"))
    reading = HeadReading(state_information=0.8126, action_shares=(0.004, 0.97, 0.026))
    assert cells.information(reading).text == "0.813"
    assert [part.text for part in cells.leading_action(head, reading)] == ["GROW", "97%"]
    assert cells.leading_action(Head("op", 3), reading)[0].text == "1"
    assert cells.information(HeadReading()) == cells.NOTHING
    assert cells.leading_action(head, HeadReading()) == (cells.NOTHING,)


def test_symbols_differ_without_colours_too():
    symbols = [cell.text for cell in (*cells.SYMBOLS.values(), cells.NO_CHOICE)]
    assert len(set(symbols)) == len(symbols) == 7
    assert set(cells.SYMBOLS) == set(HeadState)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0.000"), (-0.0001, "0.000"), (0.4565, "0.457"), (999.9, "999.900"), (123456.0, "1.23e+05"),
     (math.nan, "NaN"), (math.inf, "Inf"), (-math.inf, "-Inf")],
)  # fmt: skip
def test_numbers(value, text):
    assert cells.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0%"),
        (0.004, "<1%"),
        (0.25, "25%"),
        (0.996, ">99%"),
        (1.0, "100%"),
        (math.nan, "NaN"),
    ],
)
def test_shares_never_round_to_none_or_all(value, text):
    assert cells.share(value) == text


def test_nothing_that_was_not_measured_looks_like_a_number():
    assert cells.entropy(Head("op", 4, 1.3), HeadReading()).text == "-"
    assert cells.entropy_bar(HeadReading()) == Cell("")
    assert [part.text for part in cells.choice(HeadReading())] == ["-"]
    assert [part.text for part in cells.gradient(HeadReading())] == ["-"]
    assert [part.text for part in cells.state(HeadReading())] == ["-"]


def test_nan_has_no_level_and_no_bar():
    reading = HeadReading(entropy=math.nan, normalized=math.nan, choice_entropy=math.nan, measured_update=1)
    cell = cells.entropy(Head("op", 4), reading)
    assert (cell.text, cell.level) == ("NaN", None)
    assert cells.entropy_bar(reading) == Cell("")
    assert cells.choice(reading)[0].text == "NaN"
    assert cells.sparkline([math.nan, None], DEFAULT_THRESHOLDS)[0].text == " "


def test_counts_of_what_was_not_finite():
    assert cells.nonfinite(HeadReading(nan_values=2, inf_values=1)).text == "2 NaN 1 Inf"
    assert cells.nonfinite(HeadReading(inf_values=3)) == Cell("3 Inf", Tone.CRITICAL)
    assert cells.nonfinite(HeadReading()).text == "-"


@pytest.mark.parametrize(
    ("norm", "fill", "tone"),
    [(0.0, 0.0, Tone.WARNING), (0.009, 0.0, Tone.WARNING), (0.01, 0.0, Tone.PLAIN), (math.sqrt(0.05), 0.5, Tone.PLAIN),
     (5.0, 1.0, Tone.PLAIN), (5.1, 1.0, Tone.CRITICAL), (1e9, 1.0, Tone.CRITICAL)],
)  # fmt: skip
def test_the_gradient_bar_is_logarithmic_between_vanishing_and_exploding(norm, fill, tone):
    cell, bar = cells.gradient(HeadReading(gradient_norm=norm))
    assert isinstance(bar, Bar)
    assert bar.fill == pytest.approx(fill)
    assert cell.tone is bar.tone is tone


def test_a_sparkline_grows_with_the_ratio_and_is_coloured_by_it():
    line = cells.sparkline([0.0, 0.25, 0.5, 0.51, 0.99, 1.0], DEFAULT_THRESHOLDS)
    assert "".join(cell.text for cell in line) == "▁▃▅▅██"
    assert [cell_style(cell).color.name for cell in line] == ["red", "red", "yellow", "green", "green", "green"]


def test_what_could_steer_a_terminal_is_replaced():
    assert cells.printable("a\x1b[31mb\n\u202ec\x07") == "a�[31mb��c�"
    assert cells.printable("ünïcode 漢") == "ünïcode 漢"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (3e6, "34 d")]
)
def test_ages(seconds, text):
    assert cells.age(seconds) == text
