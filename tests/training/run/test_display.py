import io
import math
import re
from types import MappingProxyType

import pytest
from rich.console import Console

from rl_exporter import (
    Head,
    HeadMeasurement,
    HeadReading,
    Heads,
    PPOUpdatePayload,
    RunInfo,
    SanctumAggregator,
    SanctumSnapshot,
    TamiyoState,
)
from rl_exporter.view.layout import lay_out, plain_text
from rl_exporter.view.run_view import run_view
from rl_training.algorithm.episodes import Drawing
from rl_training.run.display import Display

HEADS = Heads([Head("op", 4), Head("blueprint", 4, 1.3)])


def show(*updates, width=110):
    aggregator = SanctumAggregator(HEADS, RunInfo("shown"))
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with Display(aggregator.snapshot, console, quiet=False) as display:
        for op, blueprint in updates:
            heads = {"op": HeadMeasurement(op), "blueprint": HeadMeasurement(blueprint)}
            payload = PPOUpdatePayload(heads=heads)
            aggregator.handle_ppo_update(payload)
            display.handle_ppo_update(payload)
    console.print(display.summary())
    return console.file.getvalue()


def test_the_live_table_shows_nats_bar_and_level():
    text = show((1.3, 0.6))
    row = next(line for line in text.splitlines() if "blueprint" in line and "1.3x" in line)
    assert "1.3x0.600" in row
    assert "0.433" in row
    assert " " + "█" * 8 + "▋" + "─" * 11 + " " in row
    assert "warning" not in row.split("─")[0]
    assert row.rstrip(" │").endswith("warning")
    op = next(line for line in text.splitlines() if "1.300" in line)
    assert "x1.300" not in op
    assert "healthy" in op


@pytest.mark.parametrize("width", [80, 90, 200])
def test_the_bar_keeps_its_proportion_at_any_width(width):
    text = show((1.3, math.log(4) / 2), width=width)
    row = next(line for line in text.splitlines() if "0.500" in line)
    bar = [row.count("█"), row.count("─")]
    assert abs(bar[0] - bar[1]) <= 1
    assert sum(bar) >= 8
    assert "…" not in text


def test_the_display_says_which_head_collapsed_while_the_total_looks_healthy():
    text = show((1.3, 1.3), (1.3, 0.2))
    assert "BLUEPRINT HAS COLLAPSED (0.144) while the total still reads 1.500 nats" in " ".join(text.split())


def test_the_summary_shows_first_lowest_and_last():
    text = show((1.3, 1.3), (1.3, 0.2), (1.3, 0.9))
    row = [line for line in text.splitlines() if "blueprint" in line][-1]
    assert [part.strip() for part in row.split("│")[2:5]] == ["0.938 H", "0.144 C", "0.649 H"]


def test_the_best_episode_is_drawn_at_the_end():
    display = Display(SanctumAggregator(HEADS, RunInfo("shown")).snapshot, Console(), quiet=True)
    assert str(display.drawing()) == ""
    display.remember_drawing(None)
    display.remember_drawing(Drawing(3.25, "image\n  [b]├─\x1b[2J\ndigit"))
    assert (
        str(display.drawing())
        == "best episode, return 3.250\nimage\n  [b]├─\N{REPLACEMENT CHARACTER}[2J\ndigit"
    )


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80])
def test_a_narrow_terminal_leaves_columns_out_and_cuts_no_number(width):
    lines = show((1.3, 0.6), width=width).splitlines()
    row = next(line for line in lines if "blueprint" in line)
    assert "1.3x0.600 W" in row
    assert "…" not in row
    assert len(row) <= width


def test_names_are_no_markup_and_steer_no_terminal():
    heads = Heads.of({"[red]op[/red]": 4, "a\x1b[2Jb": 4})
    aggregator = SanctumAggregator(heads, RunInfo("[bold]run[/bold]"))
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=110, color_system=None)
        with Display(aggregator.snapshot, console, quiet=False) as display:
            payload = PPOUpdatePayload(heads=dict.fromkeys(heads.names, HeadMeasurement(0.1)))
            aggregator.handle_ppo_update(payload)
            display.handle_ppo_update(payload)
        console.print(display.summary())
        text = console.file.getvalue()
        assert "[bold]run[/bold]  update" in text
        assert text.count("[red]op[/red]") >= 2
        assert "a\N{REPLACEMENT CHARACTER}[2Jb" in text
        assert "\x1b[2J" not in text


ABOVE = {threshold: math.nextafter(threshold, 1) for threshold in (0.25, 0.5)}


@pytest.mark.parametrize(
    ("ratio", "shown", "word"),
    [
        (0.004, "0.004 C", "critical"),
        (0.25, "0.250 C", "critical"),
        (ABOVE[0.25], "0.250 W", "warning"),
        (0.5, "0.500 W", "warning"),
        (ABOVE[0.5], "0.500 H", "healthy"),
        (0.9996, "1.000 H", "healthy"),
        (math.nan, "NaN", "-"),
        (None, "-", "-"),
    ],
)
@pytest.mark.parametrize(
    ("share", "percentage"),
    [(0.0, "0%"), (0.004, "<1%"), (0.9996, ">99%"), (1.0, "100%"), (math.nan, "NaN"), (None, "")],
)
def test_a_reading_has_one_text_in_table_line_summary_and_panel(ratio, shown, word, share, percentage):
    reading = HeadReading(
        entropy=0.5, normalized=0.7, choice_entropy=ratio, choice_share=share, measured_update=1
    )
    effective, level = ("0.700 H", "healthy") if ratio is None and share is None else (shown, word)
    panel, table, line, summary = texts(reading)
    assert panel == (f"{shown} {percentage}".strip(), "0.500 H")
    assert table == ("0.500 H", "0.700 H", shown, percentage or "-", level)
    assert line == effective
    assert summary == (effective, level)


def snapshot_of(reading, total=None):
    """A run of the head op, as it is after one update that measured this total entropy."""
    readings = MappingProxyType({"op": reading})
    state = TamiyoState(heads=Heads.of({"op": 4}), readings=readings, updates=1, entropy=total)
    return SanctumSnapshot(run=RunInfo("a"), tamiyo=state, start_timestamp=0.0)


def texts(reading):
    """What the panel, the table, a plain line and the summary write for one reading of the head op."""
    snapshot = snapshot_of(reading)
    rows = dict(
        re.findall(r"^(\S+) +(\S.*?)$", plain_text(lay_out(run_view(snapshot, 1.0), 100)), re.MULTILINE)
    )
    table, line, summary = (
        displayed(snapshot, terminal, after) for terminal, after in ((True, 0), (False, 0), (False, 1))
    )
    nats, normalized, _bar, choice, share, level = cells_of(table, 7)
    *_, last, summary_level = cells_of(summary, 5)
    return (
        (rows["Choice"], rows["Entr"]),
        (nats, normalized, choice, share, level),
        re.search(r"  op (.*)$", line.splitlines()[0])[1],
        (last, summary_level),
    )


def displayed(snapshot, terminal, with_summary):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with Display(lambda: snapshot, console, quiet=False) as display:
        display.handle_ppo_update(PPOUpdatePayload(heads={}))
    if with_summary:
        console.print(display.summary())
    return console.file.getvalue()


def cells_of(text, columns):
    row = next(line for line in text.splitlines() if re.match(r"│ op +│", line))
    parts = [part.strip() for part in row.strip("│").split("│")]
    assert len(parts) == columns
    return parts[1:]


def test_a_settled_head_is_shown_as_settled_and_not_as_collapsed():
    reading = HeadReading(
        entropy=0.07,
        normalized=0.05,
        choice_entropy=0.05,
        choice_share=1.0,
        state_information=0.8,
        measured_update=1,
    )
    _, table, line, (last, level) = texts(reading)
    assert (table[-1], level) == ("settled", "settled")
    assert (line, last) == ("0.050 C", "0.050 C")
    text = " ".join(displayed(snapshot_of(reading, total=0.07), True, 0).split())
    assert "weakest head: op 0.050, but it decides by the state" in text
    assert "COLLAPSED" not in text


@pytest.mark.parametrize(("ratio", "color"), [(0.8, "32"), (0.4, "33"), (0.2, "1;31")])
def test_the_table_has_the_colours_of_the_panel(ratio, color):
    reading = HeadReading(
        entropy=0.5, normalized=ratio, choice_entropy=ratio, choice_share=1.0, measured_update=1
    )
    state = TamiyoState(heads=Heads.of({"op": 4}), readings=MappingProxyType({"op": reading}), updates=1)
    snapshot = SanctumSnapshot(run=RunInfo("a"), tamiyo=state, start_timestamp=0.0)
    console = Console(
        file=io.StringIO(), force_terminal=True, width=100, color_system="standard", legacy_windows=False
    )
    with Display(lambda: snapshot, console, quiet=False) as display:
        display.handle_ppo_update(PPOUpdatePayload(heads={}))
    letter = {"32": "H", "33": "W", "1;31": "C"}[color]
    for text in (f"0.500 {letter}", f"{ratio:.3f} {letter}"):
        assert f"\x1b[{color}m{text}\x1b[0m" in console.file.getvalue()
