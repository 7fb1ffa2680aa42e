"""Names that others chose cost a reader time in proportion to their length, not to its square."""

import asyncio

import pytest

from rl_exporter import Head, HeadMeasurement, Heads, PPOUpdatePayload, RunInfo, SanctumAggregator
from rl_exporter.panel.run_list import run_row
from rl_exporter.view import layout
from rl_exporter.view import run_view as run_view_module
from rl_exporter.view.layout import lay_out, shortened, text_width
from rl_exporter.view.run_view import run_view
from tests.support.panel_runs import many_heads, watched_run

LONG = 16_000


@pytest.fixture
def measured(monkeypatch):
    """The characters whose widths were asked for. The work is counted, because time depends on the machine."""
    characters = []
    real = layout._char_width

    def counting(char):
        characters.append(char)
        return real(char)

    monkeypatch.setattr(layout, "_char_width", counting)
    return characters


@pytest.mark.parametrize("char", ["é", "漢", "\u0301"])
def test_a_name_is_measured_once_and_cut_by_what_fits(char, measured):
    text = "x" + char * LONG
    assert text_width(shortened(text, 20)) <= 20
    assert len(measured) <= 3 * LONG


def test_a_zero_width_tail_is_cut_in_bounded_work(measured):
    shortened("\u0301" * LONG + "漢" * LONG, 3)
    assert len(measured) <= 5 * LONG


def test_both_ends_of_a_name_stay(measured):
    assert shortened("aé" + "x" * LONG + "éb", 7) == "aéx…xéb"
    assert shortened("aé" + "x" * LONG + "éb", 6) == "aéx…éb"
    assert shortened("漢" * LONG, 6) == "漢…漢"


def run_of_long_names(length):
    name, action = "漢" * length, "字" * length
    heads = Heads([Head(name, 2, actions=(action, "b")), Head("é" * length, 2)])
    aggregator = SanctumAggregator(heads, RunInfo("ü" * length))
    measurement = HeadMeasurement(0.01, 0.01, 0.5, 0.9, 0.1, action_shares=(0.9, 0.1))
    for _ in range(4):
        aggregator.handle_ppo_update(PPOUpdatePayload(heads={head.name: measurement for head in heads}))
    return aggregator


def work(measured, look, length):
    measured.clear()
    look(length)
    return len(measured)


def panel(length):
    assert lay_out(run_view(run_of_long_names(length).snapshot(), 0.0), 100)


def run_list(length):
    run = watched_run(run_of_long_names(length))
    asyncio.run(run.poll())
    assert run_row(run)


@pytest.mark.parametrize("look", [panel, run_list])
def test_twice_the_length_is_at_most_twice_the_work(look, measured):
    once = work(measured, look, 2000)
    assert once > 2000
    assert work(measured, look, 4000) <= 2 * once


def test_a_run_of_many_heads_is_looked_at_once_a_head(monkeypatch):
    """A foreign body may hold 100,000 of them."""
    looks = []
    monkeypatch.setattr(run_view_module, "common_thresholds", lambda heads: looks.append(len(heads)))
    run_view(many_heads(50).snapshot(), 0.0)
    assert looks == [50]
